"""A SQLite file and a Postgres database for tests, each with a schema of its own."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from bridge.ledger.database import migrate, read_url

POSTGRES = "postgresql://postgres@127.0.0.1:5432/test"
CURE = (
    "set TEST_DATABASE_URL, or run PostgreSQL on 127.0.0.1:5432 with user postgres, database test"
)


@contextmanager
def postgres() -> Iterator[URL]:
    """Give a fresh database of a real server, or skip and say how to get one."""
    server = read_url(os.environ.get("TEST_DATABASE_URL") or POSTGRES)
    name = f"ledger_{uuid.uuid4().hex}"
    engine = create_engine(
        server, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 2}
    )
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError:
        engine.dispose()
        pytest.skip(f"no PostgreSQL: {CURE}")
    try:
        yield server.set(database=name)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@contextmanager
def sqlite(folder: Path) -> Iterator[URL]:
    """Give a fresh file."""
    yield make_url(f"sqlite:///{folder / 'ledger.sqlite3'}")


@contextmanager
def database(kind: str, folder: Path) -> Iterator[URL]:
    """Give a migrated database of the named kind."""
    with sqlite(folder) if kind == "sqlite" else postgres() as url:
        migrate(url)
        yield url
