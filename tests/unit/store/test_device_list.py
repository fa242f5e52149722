"""The CSV of devices: good rows are kept, every bad one is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetry.errors import ConfigurationError
from telemetry.store.device_list import BadRow, read_devices
from telemetry.store.devices import Device

DOMAINS = {"lighting", "waste"}


def read(tmp_path: Path, text: str) -> list[Device | BadRow]:
    path = tmp_path / "devices.csv"
    path.write_text(text, encoding="utf-8")
    return [row for _, row in read_devices(path, DOMAINS)]


def test_row_has_every_field(tmp_path: Path) -> None:
    (device,) = read(
        tmp_path,
        "id,domain,name,zone,latitude,longitude,interval\nlamp-1,lighting,Quai 1,centre,47.47,-0.55,15m\n",
    )
    assert device == Device("lamp-1", "lighting", "Quai 1", "centre", 47.47, -0.55, 900.0)


def test_spreadsheet_of_a_comma_country_is_read(tmp_path: Path) -> None:
    (device,) = read(tmp_path, "\ufeffdomain;id;latitude;interval\nwaste;b;47,5;60\n")
    assert device == Device("b", "waste", latitude=47.5, interval_s=60.0)


def test_bad_rows_are_named_with_their_lines_and_good_ones_kept(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        "id,domain,latitude,interval\n"
        "a,lighting,,\n"
        "a,lighting,,\n"
        "b/c,lighting,,\n"
        "d,weather,,\n"
        "e,waste,91,\n"
        "f,waste,north,\n"
        "g,waste,,soon\n"
        "h,waste,,-5\n"
        "i,waste,1,1,1\n"
        "j,waste,,\n",
    )
    assert [row.device_id for row in rows if isinstance(row, Device)] == ["a", "j"]
    bad = {row.line: row.fault for row in rows if isinstance(row, BadRow)}
    assert list(bad) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert bad[3] == "id 'a' was in line 2 already"
    assert "lighting, waste" in bad[5]


@pytest.mark.parametrize(
    ("text", "named"),
    [("", "no column id"), ("id,zone\n", "no column domain"), ("id,domain,colour\n", "column colour is unknown")],
)
def test_wrong_header_names_the_columns(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        read(tmp_path, text)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "devices.csv").write_bytes(b"id,domain\n\xff\xfe,waste\n")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        list(read_devices(tmp_path / "devices.csv", DOMAINS))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        list(read_devices(tmp_path / "none.csv", DOMAINS))
