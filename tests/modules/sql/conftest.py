"""Databases that the tests share. A server that is not installed skips its tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ...support.databases import DatabaseServer, MariaDb, Postgres


def _running(kind: type[DatabaseServer], driver: str) -> Iterator[DatabaseServer]:
    if not kind.program:
        pytest.skip(f"{kind.__name__} is not installed")
    pytest.importorskip(driver)
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[DatabaseServer]:
    """A server of PostgreSQL."""
    yield from _running(Postgres, "psycopg")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[DatabaseServer]:
    """A server of MariaDB."""
    yield from _running(MariaDb, "pymysql")


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database."""
    found: str = request.param
    return found


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    """Where one of this kind is."""
    if kind == "sqlite":
        return "sqlite:test.db"
    server: DatabaseServer = request.getfixturevalue({"postgresql": "postgres", "mysql": "mariadb"}[kind])
    return server.url
