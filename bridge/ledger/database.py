"""SQLite by default, Postgres when DATABASE_URL says so: engines and migrations."""

import logging
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

log = logging.getLogger(__name__)

ROOT = Path(__file__).parent.parent.parent
NEWEST = "0001"  # the last file in migrations/versions
CONNECT_TIMEOUT_S = 2


class BadDatabaseUrl(ValueError):
    """DATABASE_URL is unusable. The message says why and shows no password."""


def read_url(value: str) -> URL:
    """Return a URL that SQLAlchemy understands; Heroku's postgres:// is one of psycopg's."""
    try:
        url = make_url(value)
    except ArgumentError as error:
        raise BadDatabaseUrl("is no database URL") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise BadDatabaseUrl(f"names {url.drivername!r}; sqlite and postgresql are known")
    return url


def engine_for(url: URL, patience_s: float) -> Engine:
    """Return an engine. It connects when it is first used, and waits so long for a lock."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": patience_s})
        event.listen(engine, "connect", prepare_sqlite)
        return engine
    settings = f"-c statement_timeout={int(patience_s * 1000)}"
    return create_engine(
        url,
        pool_size=4,
        max_overflow=4,
        pool_timeout=patience_s,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": settings,
            # A server that vanishes without a word is noticed after a few seconds, not hours.
            "tcp_user_timeout": 5000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 2,
        },
    )


def prepare_sqlite(connection: Any, _: Any) -> None:
    """Let readers and the writer work side by side, without a disk flush per call."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def migrate(url: URL) -> None:
    """Bring the schema to its newest version. One process does it, others wait for it."""
    # 70 ms and 5 MB that only the first start after an update needs.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["url"] = url
    command.upgrade(config, "head")


def is_current(engine: Engine) -> bool:
    """Say whether the schema is the one that this code knows."""
    try:
        with engine.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError:
        return False
    return found == NEWEST


def prepare(url: URL) -> None:
    """At start: create or update a SQLite file; Postgres is left to the release step."""
    if url.get_backend_name() != "sqlite":
        return
    engine = engine_for(url, patience_s=5)
    try:
        if not is_current(engine):
            migrate(url)
    except Exception as error:
        # Calls are answered without it; the ledger says so once a minute from now on.
        log.error("ledger %s cannot be created: %s", url.database, type(error).__name__)
    finally:
        engine.dispose()
