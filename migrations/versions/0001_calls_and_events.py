"""Calls and their events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "calls",
        sa.Column("provider", sa.String(20), primary_key=True),
        sa.Column("call_id", sa.String(200), primary_key=True),
        sa.Column("from_number", sa.String(500), nullable=False, server_default=""),
        sa.Column("to_number", sa.String(500), nullable=False, server_default=""),
        sa.Column("agent", sa.String(200)),
        sa.Column("session_id", sa.String(200)),
        sa.Column("rang_at", sa.Double, nullable=False),
        sa.Column("round_at", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("held", sa.Integer, nullable=False),
        sa.Column("answered_at", sa.Double),
        sa.Column("stream_started_at", sa.Double),
        sa.Column("stream_ended_at", sa.Double),
        sa.Column("stream_failed", sa.Text),
        sa.Column("ended_at", sa.Double),
        sa.Column("outcome", sa.String(40)),
        sa.Column("reason", sa.Text),
        sa.Column("final_status", sa.String(40)),
        sa.Column("duration_s", sa.Integer),
        sa.Column("status_sequence", sa.Integer),
    )
    op.create_index("calls_rang_at", "calls", ["rang_at"])
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("provider", sa.String(20), nullable=False),
        sa.Column("call_id", sa.String(200), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("what", sa.String(40), nullable=False),
        sa.Column("detail", sa.Text, nullable=False, server_default=""),
    )
    op.create_index("events_call", "events", ["provider", "call_id"])
    op.create_index("events_at", "events", ["at"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("events")
    op.drop_table("calls")
