"""That the ledger keeps what happened, and that no caller ever waits for it."""

import multiprocessing
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, create_engine, make_url, select, text

import bridge.ledger.ledger as module
from bridge.ledger.database import BadDatabaseUrl, engine_for, is_current, prepare, read_url
from bridge.ledger.ledger import PATIENCE_S, THREADS, Ledger
from bridge.ledger.memory import Claim, Memory, StreamSeen
from bridge.ledger.schema import calls, events, metadata
from bridge.ledger.statements import Entry
from tests.databases import database
from tests.waiting import eventually

NOW = 1_700_000_000.0
NUMBERS = ("+14155550100", "+14155550199")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """Each kind of database, migrated and empty."""
    with database(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def ledger(url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger on it, with more patience than a caller has: a test machine may be busy."""
    monkeypatch.setattr(module, "PATIENCE_S", 20)
    opened = Ledger(url, 30, lambda: NOW)
    yield opened
    opened.close()


def rows(url: URL, table: Any = calls) -> list[dict[str, Any]]:
    """Return what a table holds."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [dict(row._mapping) for row in connection.execute(select(table))]
    engine.dispose()
    return found


def test_migrations_make_the_schema_that_the_code_knows(url: URL) -> None:
    """Alembic finds no difference between the two."""
    engine = create_engine(url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert differences == []
    assert is_current(engine)
    engine.dispose()


def test_every_webhook_of_a_call_is_counted(ledger: Ledger, url: URL) -> None:
    """Attempts count up, the first moment stays, and there is one row."""
    claims = [ledger.claim("twilio", "CA1", NUMBERS, 0, NOW + n) for n in range(3)]

    assert claims == [Claim(n + 1, NOW, NOW, 0) for n in range(3)]
    [row] = rows(url)
    assert (row["from_number"], row["to_number"], row["attempts"]) == (*NUMBERS, 3)


def test_status_callback_before_the_first_webhook_is_no_webhook(ledger: Ledger) -> None:
    """The row that it makes counts nothing: the call's own first webhook is the first."""
    ledger.note("telnyx", "v3:a", "status", "ringing", final_status="ringing", status_sequence=0)
    assert eventually(lambda: len(rows(ledger._patient.url)) == 1)

    assert ledger.claim("telnyx", "v3:a", NUMBERS, 0, NOW + 61).attempts == 1
    assert ledger.claim("telnyx", "v3:a", NUMBERS, 0, NOW + 62) == Claim(2, NOW + 61, NOW, 0)


def test_webhooks_counted_while_the_database_was_away_still_count(ledger: Ledger, url: URL) -> None:
    """A process does not forget what it answered from memory when the database is back."""
    for n in range(3):
        ledger.memory.claim(("twilio", "CA1"), 0, NOW + n)

    assert ledger.claim("twilio", "CA1", NUMBERS, 0, NOW + 100) == Claim(4, NOW, NOW, 0)


def test_backlog_goes_in_portions(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """No delete holds the file for longer than a caller would notice."""
    monkeypatch.setattr("bridge.ledger.statements.PORTION", 2)
    old = Ledger(url, 30, lambda: NOW)
    for n in range(5):
        old.note("twilio", f"CA{n}", "rang", outcome="stream")
    old.close(within_s=10)
    later = Ledger(url, 30, lambda: NOW + 31 * 86400)

    def old_events() -> int:
        return sum(row["call_id"].startswith("CA") for row in rows(url, events))

    for left in (3, 1, 0):
        later.note("twilio", f"CB{left}", "rang", outcome="stream")
        assert eventually(lambda left=left: old_events() == left)  # type: ignore[misc]
    assert eventually(lambda: {r["call_id"] for r in rows(url)} == {"CB3", "CB1", "CB0"})
    later.close(within_s=10)


def test_words_that_are_longer_than_their_column_are_cut(ledger: Ledger, url: URL) -> None:
    """A carrier's new and long word does not cost the row."""
    ledger.note("plivo", "u", "stream " + "x" * 100, final_status="y" * 100, status_sequence=1)
    ledger.close(within_s=10)

    assert ledger.failures == {}
    assert rows(url)[0]["final_status"] == "y" * 40


def test_newer_schema_than_the_code_knows_is_no_obstacle(
    url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    """A rollback of the code: the bridge starts, and calls are answered."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    prepare(url)

    assert ("cannot be created" in caplog.text) == (url.get_backend_name() == "sqlite")


def test_a_hold_begins_a_new_round(ledger: Ledger) -> None:
    """The redirect of hold.xml counts from one again; a replay of the older round does not."""
    ledger.claim("twilio", "CA1", NUMBERS, 0, NOW)
    held = ledger.claim("twilio", "CA1", NUMBERS, 1, NOW + 20)
    replayed = ledger.claim("twilio", "CA1", NUMBERS, 0, NOW + 21)

    assert held == Claim(1, NOW + 20, NOW, 1)
    assert replayed == Claim(2, NOW + 20, NOW, 1)


def test_memory_counts_as_the_database_does(ledger: Ledger) -> None:
    """The same webhooks, the same claims: whichever answers, the rule is one."""
    memory = Memory()
    for held, at in ((0, 0), (0, 5), (1, 20), (0, 21), (1, 22), (3, 50), (2, 51)):
        expected = memory.claim(("twilio", "CA1"), held, NOW + at)
        assert ledger.claim("twilio", "CA1", NUMBERS, held, NOW + at) == expected


def claim_in_a_process(url: str, calls_each: int, results: Any) -> None:
    """Count webhooks of the same calls as every other process does."""
    # This is about counting: on a busy machine a claim may take longer than callers would wait.
    module.PATIENCE_S = 20
    ledger = Ledger(make_url(url), 30, time.time)
    found = [ledger.claim("twilio", f"CA{n}", NUMBERS, 0, NOW).attempts for n in range(calls_each)]
    results.put((found, dict(ledger.failures)))
    ledger.close()


def test_claims_of_several_processes_are_atomic(url: URL) -> None:
    """Three processes count the same 40 calls: every count is given out once per call."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    arguments = (url.render_as_string(hide_password=False), 40, results)
    processes = [context.Process(target=claim_in_a_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)

    assert [failures for _, failures in answers] == [{}] * 3
    counted = [[found[n] for found, _ in answers] for n in range(40)]
    written = [row["attempts"] for row in rows(url)]
    assert written == [3] * 40
    assert [sorted(counts) for counts in counted] == [[1, 2, 3]] * 40


def test_notes_are_written_when_there_is_time(ledger: Ledger, url: URL) -> None:
    """An event each, and the columns of the call's own row."""
    ledger.claim("plivo", "u-1", NUMBERS, 0, NOW)
    ledger.note("plivo", "u-1", "stream", "session s-1", session_id="s-1", outcome="stream")
    ledger.close(within_s=10)

    [row] = rows(url)
    assert (row["session_id"], row["outcome"], row["attempts"]) == ("s-1", "stream", 1)
    [event] = rows(url, events)
    assert (event["what"], event["detail"], event["at"]) == ("stream", "session s-1", NOW)


def test_note_about_an_unclaimed_call_makes_its_row(ledger: Ledger, url: URL) -> None:
    """The claim may have been answered from memory while the database was away."""
    ledger.note("plivo", "u-1", "goodbye", outcome="goodbye")
    ledger.close(within_s=10)

    assert [row["outcome"] for row in rows(url)] == ["goodbye"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 3, 0, 1)])
def test_status_callbacks_may_come_in_any_order(
    ledger: Ledger, url: URL, order: tuple[int, ...]
) -> None:
    """The highest sequence number wins; duplicates change nothing."""
    statuses = ("initiated", "ringing", "in-progress", "completed")
    for sequence in order:
        row = {"final_status": statuses[sequence], "status_sequence": sequence}
        extra = {"duration_s": 42} if sequence == 3 else {}
        ledger.note("telnyx", "v3:a", "status", statuses[sequence], **row, **extra)
    ledger.close(within_s=10)

    [row] = rows(url)
    assert (row["final_status"], row["status_sequence"], row["duration_s"]) == ("completed", 3, 42)


def test_stream_events_are_seen_by_other_processes(ledger: Ledger, url: URL) -> None:
    """The document after the stream may be asked for anywhere."""
    entry = Entry("twilio", "CA1", NOW, "stream started", "", {"stream_started_at": NOW})
    ledger.stream_event(StreamSeen(started=True), entry)
    entry = Entry("twilio", "CA1", NOW, "stream failed", "why", {"stream_failed": "why"})
    ledger.stream_event(StreamSeen(failed="why"), entry)
    elsewhere = Ledger(url, 30, lambda: NOW)

    assert elsewhere.stream_seen("twilio", "CA1") == StreamSeen(True, "why")
    assert elsewhere.stream_seen("twilio", "CA2") == StreamSeen(False, None)
    elsewhere.close()


def test_rows_grow_old_and_go(url: URL) -> None:
    """LEDGER_DAYS after they happened."""
    old = Ledger(url, 30, lambda: NOW)
    old.note("twilio", "CA1", "rang", outcome="stream")
    old.close(within_s=10)
    later = Ledger(url, 30, lambda: NOW + 31 * 86400)
    later.note("twilio", "CA2", "rang", outcome="stream")
    assert eventually(lambda: [row["call_id"] for row in rows(url)] == ["CA2"])
    assert eventually(lambda: [row["call_id"] for row in rows(url, events)] == ["CA2"])
    later.close(within_s=10)


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x" * 5000, "é" * 5000])
def test_text_that_no_database_takes_is_made_to_fit(ledger: Ledger, url: URL, text: str) -> None:
    """NUL, lone surrogates and endless text do not cost the row."""
    assert ledger.claim("twilio", text, (text, text), 0, NOW).attempts == 1
    ledger.note("twilio", text, "stream", text, reason=text, outcome="stream")
    ledger.close(within_s=10)

    assert ledger.failures == {}
    [row] = rows(url)
    assert row["outcome"] == "stream"


def test_entry_that_is_refused_does_not_take_others_with_it(ledger: Ledger, url: URL) -> None:
    """One bad value is counted; what was queued with it is written."""
    ledger.note("twilio", "CA1", "stream", outcome="stream")
    ledger.note("twilio", "CA2", "x" * 10, attempts=None)
    ledger.note("twilio", "CA3", "stream", outcome="stream")
    ledger.close(within_s=10)

    assert {row["call_id"] for row in rows(url)} >= {"CA1", "CA3"}
    assert ledger.failures["refused"] == 1


# Slow, locked, full, down


def black_hole() -> tuple[socket.socket, URL]:
    """Return a Postgres that accepts connections and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, read_url(f"postgresql://x@127.0.0.1:{listener.getsockname()[1]}/x")


def test_silent_database_costs_a_caller_50_ms_at_most(caplog: pytest.LogCaptureFixture) -> None:
    """Claims come from memory, all of them counted, and the log says it once."""
    listener, silent = black_hole()
    ledger = Ledger(silent, 30, lambda: NOW)
    claims = [ledger.claim("twilio", "CA1", NUMBERS, 0, NOW) for _ in range(THREADS + 4)]
    started = time.monotonic()
    ledger.claim("twilio", "CA1", NUMBERS, 0, NOW)
    took_s = time.monotonic() - started

    assert [claim.attempts for claim in claims] == list(range(1, THREADS + 5))
    assert ledger.failures["slow"] == THREADS
    assert ledger.failures["busy"] == 5
    # A database that hangs is not even asked while all threads wait for it.
    assert took_s < PATIENCE_S
    assert caplog.text.count("ledger: ") == 1
    listener.close()
    ledger.close(within_s=0.1)


def test_database_that_is_not_there_is_no_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    """Refused connections: memory answers, and the log names the kind of trouble, no password."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ledger = Ledger(read_url(f"postgresql://x:canary@127.0.0.1:{port}/x"), 30, lambda: NOW)
    assert ledger.claim("twilio", "CA1", NUMBERS, 0, NOW) == Claim(1, NOW, NOW, 0)
    assert ledger.stream_seen("twilio", "CA1") == StreamSeen()

    assert sum(ledger.failures.values()) == 2
    assert "canary" not in caplog.text
    ledger.close(within_s=0.1)


def test_locked_file_is_no_obstacle(tmp_path: Path) -> None:
    """Another program holds the file: the caller is answered, the rest is written afterwards."""
    with database("sqlite", tmp_path) as url:
        ledger = Ledger(url, 30, lambda: NOW)
        other = sqlite3.connect(url.database or "", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        claim = ledger.claim("twilio", "CA1", NUMBERS, 0, NOW)
        ledger.stream_event(
            StreamSeen(started=True),
            Entry("twilio", "CA1", NOW, "stream started", "", {"stream_started_at": NOW}),
        )
        ledger.note("twilio", "CA1", "stream", outcome="stream")
        assert claim == Claim(1, NOW, NOW, 0)
        assert ledger.stream_seen("twilio", "CA1").started
        other.execute("ROLLBACK")
        other.close()

        assert eventually(lambda: [row["outcome"] for row in rows(url)] == ["stream"])
        assert eventually(lambda: len(rows(url, events)) == 2)
        assert rows(url)[0]["stream_started_at"] == NOW
        ledger.close()


def test_missing_table_is_no_obstacle(tmp_path: Path) -> None:
    """A release step that was forgotten: calls are answered."""
    ledger = Ledger(make_url(f"sqlite:///{tmp_path / 'empty.sqlite3'}"), 30, lambda: NOW)

    assert ledger.claim("twilio", "CA1", NUMBERS, 0, NOW) == Claim(1, NOW, NOW, 0)
    assert ledger.failures["down"] == 1
    ledger.close(within_s=0.1)


def test_unwritable_place_is_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that is not there: the process starts, and says so."""
    url = make_url(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.sqlite3'}")
    prepare(url)
    ledger = Ledger(url, 30, lambda: NOW)

    assert "cannot be created" in caplog.text
    assert ledger.claim("twilio", "CA1", NUMBERS, 0, NOW).attempts == 1
    ledger.close(within_s=0.1)


def test_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a place in it."""
    monkeypatch.setattr("bridge.ledger.writer.MOST_WAITING", 3)
    listener, silent = black_hole()
    ledger = Ledger(silent, 30, lambda: NOW)
    for n in range(210):
        ledger.note("twilio", f"CA{n}", "rang")

    assert ledger.failures["dropped"] > 0
    listener.close()
    ledger.close(within_s=0.1)


def test_file_is_created_when_missing(tmp_path: Path) -> None:
    """By itself, by several processes at once if need be, in WAL mode."""
    url = make_url(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=prepare, args=(url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    engine = engine_for(url, 1)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    assert is_current(engine)
    engine.dispose()


@pytest.mark.parametrize("given", ["postgres://u:p@h/d", "postgresql://u:p@h/d"])
def test_herokus_url_is_understood(given: str) -> None:
    """postgres:// and postgresql:// are both psycopg 3's."""
    assert read_url(given).drivername == "postgresql+psycopg"


@pytest.mark.parametrize("given", ["mysql://u:canary@h/d", "nonsense canary", "oracle://canary"])
def test_unknown_database_is_named_without_its_password(given: str) -> None:
    """The kinds that are known, and nothing secret."""
    with pytest.raises(BadDatabaseUrl) as caught:
        read_url(given)

    assert "canary" not in str(caught.value)


def test_memory_is_bounded() -> None:
    """The oldest calls go first."""
    memory = Memory(most_calls=3)
    for n in range(5):
        memory.claim(("twilio", f"CA{n}"), 0, NOW)

    assert memory.claim(("twilio", "CA0"), 0, NOW).attempts == 1
    assert memory.claim(("twilio", "CA4"), 0, NOW).attempts == 2
