"""flask --app app calls, flask --app app call ID: what happened, for the person at the terminal."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
from flask import Flask
from sqlalchemy import URL, Engine, or_, select
from sqlalchemy.exc import SQLAlchemyError

from bridge.ledger.database import engine_for
from bridge.ledger.schema import calls, events

UNITS_S = {"m": 60, "h": 3600, "d": 86400}
MOST_ROWS = 1000
PATIENCE_S = 10
COLUMNS = ("when", "provider", "call_id", "from", "to", "outcome", "status", "s", "reason")


class Since(click.ParamType[float]):
    """A span of time such as 30m, 12h or 7d, in seconds."""

    name = "SPAN"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"([0-9]{1,6})([mhd])", value)
        if not found:
            self.fail(f"{value!r} is no span: give 30m, 12h or 7d", param, ctx)
        return int(found.group(1)) * UNITS_S[found.group(2)]


def register(app: Flask, url: URL) -> None:
    """Add both commands to `flask --app app`."""

    @app.cli.command("calls")
    @click.option("--since", default="24h", type=Since(), show_default=True, help="How far back.")
    @click.option("--failed", is_flag=True, help="Only calls that a caller was sorry about.")
    @click.option("--limit", default=50, type=click.IntRange(1, MOST_ROWS), show_default=True)
    @click.option("--json", "as_json", is_flag=True, help="For machines.")
    def recent(since: float, failed: bool, limit: int, as_json: bool) -> None:
        """List recent calls, the newest first."""
        question = select(calls).where(calls.c.rang_at >= time.time() - since)
        if failed:
            question = question.where(
                or_(calls.c.outcome.in_(("sorry", "hold")), calls.c.stream_failed.is_not(None))
            )
        found = ask(url, question.order_by(calls.c.rang_at.desc()).limit(limit))
        if as_json:
            click.echo(json.dumps(found, indent=2))
        elif not found:
            click.echo("no calls")
        else:
            click.echo(table([in_columns(row) for row in found]))

    @app.cli.command("call")
    @click.argument("call_id")
    @click.option("--json", "as_json", is_flag=True, help="For machines.")
    def one(call_id: str, as_json: bool) -> None:
        """Show what happened to one call, step by step."""
        rows = ask(url, select(calls).where(calls.c.call_id == call_id))
        if not rows:
            raise click.ClickException(f"no call {call_id!r} in the ledger")
        steps = ask(
            url,
            select(events).where(events.c.call_id == call_id).order_by(events.c.at, events.c.id),
        )
        if as_json:
            click.echo(json.dumps({"call": rows[0], "events": steps}, indent=2))
            return
        row = rows[0]
        click.echo(f"{row['provider']} call {call_id} from {row['from_number'] or '(withheld)'}")
        agent, session = row["agent"] or "(none)", row["session_id"] or "(none)"
        click.echo(f"  to {row['to_number']}, agent {agent}, session {session}")
        for step in steps:
            after_s = step["at"] - row["rang_at"]
            click.echo(
                f"{moment(step['at'])} {after_s:+8.1f} s  {step['what']:16} {step['detail']}"
            )
        click.echo(f"outcome {row['outcome']}" + (f": {row['reason']}" if row["reason"] else ""))


def ask(url: URL, question: Any) -> list[dict[str, Any]]:
    """Return rows, or say that the ledger cannot be read."""
    engine: Engine = engine_for(url, PATIENCE_S)
    try:
        with engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(question)]
    except SQLAlchemyError as error:
        raise click.ClickException(f"the ledger cannot be read: {type(error).__name__}") from error
    finally:
        engine.dispose()


def in_columns(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one call as the cells of its line."""
    return (
        moment(row["rang_at"]),
        row["provider"],
        row["call_id"],
        row["from_number"],
        row["to_number"],
        row["outcome"] or "",
        row["final_status"] or "",
        "" if row["duration_s"] is None else str(row["duration_s"]),
        row["reason"] or row["stream_failed"] or "",
    )


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return lines whose cells stand below each other."""
    lines = [COLUMNS, *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def moment(at: float) -> str:
    """Return Unix seconds as UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
