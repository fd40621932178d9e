"""The two tables. Neither has a place for a token or a stream URL."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

# In characters; what a carrier sends beyond that is cut off.
LONGEST_TEXT = 500
LONGEST_ID = 200

# Moments are Unix seconds.
calls = Table(
    "calls",
    metadata,
    Column("provider", String(20), primary_key=True),
    Column("call_id", String(LONGEST_ID), primary_key=True),
    Column("from_number", String(LONGEST_TEXT), nullable=False, server_default=""),
    Column("to_number", String(LONGEST_TEXT), nullable=False, server_default=""),
    Column("agent", String(LONGEST_ID)),
    Column("session_id", String(LONGEST_ID)),
    Column("rang_at", Double, nullable=False),  # the first webhook
    Column("round_at", Double, nullable=False),  # the first webhook since the last hold.xml
    Column("attempts", Integer, nullable=False),  # webhooks in this round
    Column("held", Integer, nullable=False),  # how often the caller was put on hold
    Column("answered_at", Double),  # when the last XML went out
    Column("stream_started_at", Double),
    Column("stream_ended_at", Double),
    Column("stream_failed", Text),  # why, if it did
    Column("ended_at", Double),
    Column("outcome", String(40)),  # "stream", "hold", "sorry", "goodbye", "reject"
    Column("reason", Text),
    Column("final_status", String(40)),  # the carrier's own word
    Column("duration_s", Integer),
    Column("status_sequence", Integer),  # of the status callback that final_status came with
)
Index("calls_rang_at", calls.c.rang_at)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("provider", String(20), nullable=False),
    Column("call_id", String(LONGEST_ID), nullable=False),
    Column("at", Double, nullable=False),
    Column("what", String(40), nullable=False),  # "rang", "session", "stream", "status", ...
    Column("detail", Text, nullable=False, server_default=""),
)
Index("events_call", events.c.provider, events.c.call_id)
Index("events_at", events.c.at)
