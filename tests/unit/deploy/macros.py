"""What Grafana makes of a query before it sends it: variables and macros of its PostgreSQL data source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_VARIABLE = re.compile(r"\$\{(?P<braced>\w+)(?::(?P<format>\w+))?\}|\$(?P<plain>(?!__)\w+)")
_MACRO = re.compile(r"\$(__\w+)\(([^)]*)\)")


class All(str):
    """The choice "All" of a variable with a custom value for it, which Grafana inserts as it is."""


@dataclass(frozen=True)
class View:
    """What the reader of a dashboard has chosen.

    Attributes:
        start, end: the time range.
        chosen: by variable: its values, the custom value of "All", or the one value of a variable that takes one.
        interval: `$__interval`, from the width of the panel.
    """

    start: datetime
    end: datetime
    chosen: Mapping[str, Sequence[str] | str] = field(default_factory=dict)
    interval: str = "5m"


def expand(sql: str, view: View) -> str:
    """The query as the database gets it.

    Raises:
        LookupError: a variable or a macro is not known.
    """
    sql = sql.replace("$__interval", view.interval)
    sql = _VARIABLE.sub(lambda match: _variable(match, view), sql)
    sql = _MACRO.sub(lambda match: _macro(match, view), sql)
    if left := re.search(r"\$\{?\w+", sql):
        raise LookupError(f"{left[0]} is neither a variable nor a macro")
    return sql


def _variable(match: re.Match[str], view: View) -> str:
    name, form = match["braced"] or match["plain"], match["format"]
    value = view.chosen[name]
    if isinstance(value, All):
        return str(value)
    if form == "sqlstring":
        values = [value] if isinstance(value, str) else value
        return ",".join("'" + each.replace("'", "''") + "'" for each in values)
    if form is None and isinstance(value, str):
        return value
    raise LookupError(f"{match[0]}: several values need the format sqlstring")


def _macro(match: re.Match[str], view: View) -> str:
    name, arguments = match[1], [argument.strip() for argument in match[2].split(",")]
    start, end = (f"'{moment.astimezone(UTC).isoformat().replace('+00:00', 'Z')}'" for moment in (view.start, view.end))
    match name:
        case "__timeFrom":
            return start
        case "__timeTo":
            return end
        case "__timeFilter":
            return f"{arguments[0]} BETWEEN {start} AND {end}"
        case "__timeGroup":
            return _group(*arguments)
        case "__timeGroupAlias":
            return f'{_group(*arguments)} AS "time"'
    raise LookupError(f"${name} is not known to these tests; teach them before using it")


def _group(column: str, interval: str) -> str:
    amount, unit = re.fullmatch(r"'?(\d+)([smhd])'?", interval).groups()  # type: ignore[union-attr]
    seconds = int(amount) * _UNITS[unit]
    return f"floor(extract(epoch from {column})/{seconds})*{seconds}"
