"""The ledger's SQL, for SQLite and Postgres alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, case, delete, func, or_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from bridge.ledger.memory import Claim, StreamSeen
from bridge.ledger.schema import LONGEST_ID, LONGEST_TEXT, calls, events

STATUS_COLUMNS = {"final_status", "duration_s", "status_sequence", "ended_at"}
PORTION = 500  # rows deleted at a time
FIRST_COUNTS = {"stream_started_at", "stream_failed"}


@dataclass(frozen=True)
class Entry:
    """One thing that happened to a call, to be written when there is time."""

    provider: str
    call_id: str
    at: float  # Unix seconds
    what: str
    detail: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)  # of the call's own row


def claim(
    connection: Connection,
    provider: str,
    call_id: str,
    numbers: tuple[str, str],
    held: int,
    now: float,
) -> Claim:
    """Count one webhook of a call and return the count: one statement, so no two count alike."""
    insert = upsert(connection)(calls).values(
        provider=provider,
        call_id=storable(call_id, LONGEST_ID),
        from_number=storable(numbers[0]),
        to_number=storable(numbers[1]),
        rang_at=now,
        round_at=now,
        attempts=1,
        held=held,
    )
    # attempts is 0 where a status callback made the row before the call's first webhook came.
    new_round = or_(insert.excluded.held > calls.c.held, calls.c.attempts == 0)
    statement = insert.on_conflict_do_update(
        index_elements=["provider", "call_id"],
        set_={
            "attempts": case((new_round, 1), else_=calls.c.attempts + 1),
            "round_at": case((new_round, insert.excluded.round_at), else_=calls.c.round_at),
            "held": case((new_round, insert.excluded.held), else_=calls.c.held),
            "from_number": insert.excluded.from_number,
            "to_number": insert.excluded.to_number,
        },
    ).returning(calls.c.attempts, calls.c.round_at, calls.c.rang_at, calls.c.held)
    return Claim(*connection.execute(statement).one())


def stream_seen(connection: Connection, provider: str, call_id: str) -> StreamSeen:
    """Return what the ledger knows about a call's stream."""
    row = connection.execute(
        select(calls.c.stream_started_at, calls.c.stream_failed, calls.c.stream_ended_at).where(
            calls.c.provider == provider, calls.c.call_id == storable(call_id, LONGEST_ID)
        )
    ).first()
    return StreamSeen(row[0] is not None, row[1], row[2] is not None) if row else StreamSeen()


def write(connection: Connection, entry: Entry) -> None:
    """Write an event, and what it changes in the call's own row."""
    call_id = storable(entry.call_id, LONGEST_ID)
    connection.execute(
        events.insert().values(
            provider=entry.provider,
            call_id=call_id,
            at=entry.at,
            what=storable(entry.what, longest(events.c.what)),
            detail=storable(entry.detail),
        )
    )
    if not entry.columns:
        return
    # A call whose claim never reached the ledger has no row yet.
    columns = {
        name: storable(value, longest(calls.c[name])) if isinstance(value, str) else value
        for name, value in entry.columns.items()
    }
    row = {
        "provider": entry.provider,
        "call_id": call_id,
        "rang_at": entry.at,
        "round_at": entry.at,
        "attempts": 0,
        "held": 0,
    }
    insert = upsert(connection)(calls).values({**row, **columns})
    newer = insert.excluded.status_sequence >= func.coalesce(calls.c.status_sequence, -1)

    def change(name: str) -> Any:
        if name in FIRST_COUNTS:
            return func.coalesce(calls.c[name], insert.excluded[name])
        if name in STATUS_COLUMNS:
            return case((newer, insert.excluded[name]), else_=calls.c[name])
        return insert.excluded[name]

    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["provider", "call_id"], set_={name: change(name) for name in columns}
        )
    )


def forget(connection: Connection, before: float) -> bool:
    """Delete some of what happened before a moment (Unix seconds); say whether there may be more.

    In portions: a backlog must hold no lock for longer than a caller would notice.
    """
    old_events = select(events.c.id).where(events.c.at < before).limit(PORTION)
    old_calls = (
        select(calls.c.provider, calls.c.call_id).where(calls.c.rang_at < before).limit(PORTION)
    )
    gone = connection.execute(delete(events).where(events.c.id.in_(old_events))).rowcount
    key = tuple_(calls.c.provider, calls.c.call_id)
    gone_calls = connection.execute(delete(calls).where(key.in_(old_calls))).rowcount
    return PORTION in (gone, gone_calls)


def longest(column: Column[Any]) -> int:
    """Return how many characters a column takes."""
    return getattr(column.type, "length", None) or LONGEST_TEXT


def upsert(connection: Connection) -> Any:
    """Return the dialect's insert, which knows ON CONFLICT."""
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def storable(text: str, most: int = LONGEST_TEXT) -> str:
    """Return text that every database takes: no NUL, no lone surrogate, not endless."""
    clean = text.replace("\x00", "").encode("utf-8", "replace").decode()
    return clean[:most]
