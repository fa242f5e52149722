"""A database whose server is somebody else's: the owner of the database is no superuser there."""

from __future__ import annotations

import pytest

from telemetry.settings import Settings, load_settings
from telemetry.store.engine import Engine
from telemetry.store.migrate import check, migrate
from tests.support.database_fixtures import PostgresFactory
from tests.support.sql import execute, fetch_row, wait_for


@pytest.fixture
def owned(postgres_factory: PostgresFactory, engine: Engine) -> Settings:
    """Settings of an owner that may make roles, as docs/deployment.md asks for."""
    server = postgres_factory({"fsync": "off"})
    execute(
        server.url(),
        "CREATE ROLE telemetry LOGIN CREATEROLE PASSWORD 'secret'",
        "CREATE DATABASE telemetry OWNER telemetry",
    )
    url = server.url("telemetry").replace("postgres@", "telemetry:secret@")
    return load_settings(
        overrides={"database.url": url, "database.engine": engine, "database.reader_password": "read-only"}
    )


def test_owner_of_the_database_who_may_make_roles_suffices(owned: Settings) -> None:
    url = owned.database.url.get_secret_value()
    assert not fetch_row(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")["rolsuper"]
    assert wait_for(lambda: migrate(owned))
    assert wait_for(lambda: check(owned)) == []
    assert wait_for(lambda: migrate(owned)) == []
    reader = url.replace("telemetry:secret@", "telemetry_reader:read-only@")
    assert fetch_row(reader, "SELECT count(*) FROM lighting_1d")["count"] == 0
