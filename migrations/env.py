"""How Alembic reaches the ledger: bridge/ledger/database.py hands the URL over."""

from alembic import context
from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

from bridge.ledger.schema import metadata

url = context.config.attributes["url"]
engine = create_engine(url, poolclass=NullPool)

# Several workers may start at once: the first one migrates, the others wait and find it done.
if url.get_backend_name() == "sqlite":

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection, _):  # type: ignore[no-untyped-def]
        """Sqlite3 would begin none for DDL."""
        connection.isolation_level = None
        connection.execute("PRAGMA busy_timeout=10000")

    @event.listens_for(engine, "begin")
    def lock_at_once(connection):  # type: ignore[no-untyped-def]
        """A reader that turns into a writer is refused instead of waiting."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")


with engine.connect() as connection, connection.begin():
    if url.get_backend_name() == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7258461)")
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    context.run_migrations()
