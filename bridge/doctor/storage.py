"""Whether the ledger can be written, and whether what is written stays."""

from collections.abc import Iterator, Mapping

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from bridge.doctor.findings import Finding
from bridge.ledger.database import engine_for, is_current
from bridge.settings import Settings

PATIENCE_S = 5


def check_ledger(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what calls would leave behind. No fault here drops a call: none is an error."""
    url = settings.ledger_url
    is_file = url.get_backend_name() == "sqlite"
    where = f"SQLite, {url.database or 'in memory'}" if is_file else f"Postgres at {url.host}"
    if is_file and env.get("DYNO"):
        yield Finding(
            "warning",
            f"the ledger is {where}, and a dyno's disk is emptied at least once a day",
            "heroku addons:create heroku-postgresql, which sets DATABASE_URL",
        )
    engine = engine_for(url, PATIENCE_S)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        # The error's own text may quote the URL with its password.
        yield Finding(
            "warning",
            f"the ledger ({where}) cannot be reached: {type(error).__name__}",
            "calls are answered without it; look at DATABASE_URL and at the database",
        )
        return
    else:
        current = is_current(engine)
    finally:
        engine.dispose()
    if current:
        yield Finding("ok", f"the ledger is {where}")
    else:
        yield Finding(
            "warning",
            f"the ledger ({where}) does not have the newest schema",
            "python -m bridge.ledger upgrade",
        )
