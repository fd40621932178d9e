"""What operators see: readiness, metrics, and their token."""

import atexit
import logging
import os
import runpy
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from flask.testing import FlaskClient
from prometheus_client import Counter, Histogram

from app import create_app
from bridge import health
from bridge.errors import ConfigError, StartFailed
from bridge.settings import Settings
from providers import PROVIDERS
from providers.base import Provider
from tests.conftest import (
    ROOT,
    FakeLedger,
    FakeStart,
    Recording,
    counted,
    environment,
    signed,
)

TOKEN = "an-operators-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def client(recorded: Recording, start: FakeStart | None = None, **changes: str) -> FlaskClient:
    """Return a client of a bridge whose operator has a token."""
    env = environment(OPERATOR_TOKEN=TOKEN, **changes)
    now = recorded.received_at
    app = create_app(env, start or FakeStart(), FakeLedger(), lambda: now)  # type: ignore[arg-type]
    return app.test_client()


def ring(client: FlaskClient, recorded: Recording, **changes: Any) -> int:
    body = changes.get("body", recorded.body)
    response = client.post(recorded.target, headers=recorded.headers, data=body)
    return response.status_code


def test_metrics_are_not_there_without_a_token() -> None:
    """404, as for any path that nobody serves."""
    app = create_app(environment(), FakeStart(), FakeLedger())  # type: ignore[arg-type]

    assert app.test_client().get("/metrics").status_code == 404
    assert app.test_client().get("/metrics", headers=BEARER).status_code == 404
    assert (
        app.test_client().get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404
    )


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer x", f"Basic {TOKEN}", TOKEN, "Bearer é", f"Bearer {TOKEN}x"],
)
def test_operators_token_opens_metrics_and_details(recorded: Recording, authorization: str) -> None:
    """Any other one is refused, and /ready tells only its status."""
    anyone = client(recorded)
    headers = {"Authorization": authorization} if authorization else {}

    refused = anyone.get("/metrics", headers=headers)
    assert (refused.status_code, refused.data) == (401, b"")
    assert anyone.get("/metrics", headers=BEARER).status_code == 200
    assert anyone.get("/ready", headers=headers).data == b"ready"
    assert anyone.get("/ready", headers=BEARER).json["status"] == "ready"  # type: ignore[index]


def test_short_operator_token_stops_the_start() -> None:
    """It would be guessed; the message says how to make one, and does not repeat it."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_env(environment(OPERATOR_TOKEN="canary"), PROVIDERS)

    [fault] = caught.value.faults
    assert "OPERATOR_TOKEN has 6 characters" in fault
    assert "canary" not in fault


def test_ready_tells_the_ledger_and_the_last_start(recorded: Recording) -> None:
    """A degraded ledger does not make a bridge unready: calls are answered without it."""
    start = FakeStart()
    operator = client(recorded, start)
    env = environment(OPERATOR_TOKEN=TOKEN, DATABASE_URL="postgres://127.0.0.1:1/none")
    ledger_away = create_app(env, start).test_client()  # type: ignore[arg-type]

    assert operator.get("/ready", headers=BEARER).json == {
        "status": "ready",
        "ledger": "reachable",
        "last_start": None,
    }
    ring(operator, recorded)
    answer = operator.get("/ready", headers=BEARER).json
    assert answer["last_start"] == {"outcome": "session", "seconds_ago": 0}  # type: ignore[index]
    away = ledger_away.get("/ready", headers=BEARER)
    assert (away.status_code, away.json["ledger"]) == (200, "degraded")  # type: ignore[index]


def test_stopping_process_is_not_ready(
    recorded: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, so that a load balancer turns to another; it is up all the same."""
    monkeypatch.setattr(health.stopping, "is_set", lambda: True)
    operator = client(recorded)

    short = operator.get("/ready")
    assert (short.status_code, short.data) == (503, b"stopping")
    detailed = operator.get("/ready", headers=BEARER)
    assert (detailed.status_code, detailed.json["status"]) == (503, "stopping")  # type: ignore[index]
    assert operator.get("/health").status_code == 200


def test_worker_that_is_told_to_stop_says_so(
    gunicorn_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM makes it unready, and then does what gunicorn does with it."""
    told: list[int] = []
    monkeypatch.setattr(health, "stopping", threading.Event())
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        gunicorn_settings["post_worker_init"](Mock())
        assert not health.stopping.is_set()
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert health.stopping.is_set()
    assert told == [signal.SIGTERM]


def test_webhooks_are_counted_by_what_was_answered(
    carrier: type[Provider], recorded: Recording
) -> None:
    """Provider, route, outcome; and for a refusal its reason."""
    start = FakeStart()
    bridge = client(recorded, start)
    name = carrier.name
    ring(bridge, recorded)
    start.error = StartFailed("unavailable", "status 503", attempts=3)
    ring(bridge, recorded)
    start.error = ZeroDivisionError("boom")
    ring(bridge, recorded)
    ring(bridge, recorded, body=recorded.body + "0")
    bridge.post(recorded.target, data=recorded.body)

    def webhooks(outcome: str, reason: str = "") -> float:
        labels = {"provider": name, "route": "voice", "outcome": outcome, "reason": reason}
        return counted(bridge.application, "bridge_webhooks_total", **labels)

    assert webhooks("stream") == 1
    assert webhooks("sorry") == 2
    assert webhooks("refused", "signature") == 1
    assert webhooks("refused", "header") == 1

    def number(metric: str, **labels: str) -> float:
        return counted(bridge.application, metric, **labels)

    assert number("bridge_answer_seconds_count", provider=name, route="voice") == 3
    assert number("bridge_start_seconds_count", outcome="session") == 1
    assert number("bridge_start_seconds_count", outcome="unavailable") == 1
    assert number("bridge_start_attempts_total") == 1 + 3 + 1
    assert number("bridge_deadline_left_seconds_count") == 1
    assert number("bridge_streams_total", provider=name, event="ordered") == 1
    assert number("bridge_unexpected_errors_total", provider=name) == 1


def test_count_that_fails_costs_no_call(
    recorded: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk under the metrics: the caller gets the stream all the same."""
    bridge = client(recorded)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    for metric in (Counter, Histogram):
        monkeypatch.setattr(metric, "labels", full)
    response = bridge.post(recorded.target, headers=recorded.headers, data=recorded.body)

    assert response.status_code == 200
    assert "<Stream" in response.text


def test_streams_are_counted_as_carriers_report(carrier: type[Provider]) -> None:
    """Started, stopped, failed; other words of theirs make no label of their own."""
    recorded = signed(carrier.name, {carrier.call_id_field: "1"})
    bridge = client(recorded)
    words = {kind: word for word, kind in carrier.stream_events.items()}
    for kind in ("started", "failed", "stopped", "surprising"):
        fields = {carrier.call_id_field: "1", carrier.stream_event_field: words.get(kind, kind)}
        event = signed(carrier.name, fields, target=f"/{carrier.name}/stream")
        bridge.post(event.target, headers=event.headers, data=event.body)

    for event_name in ("started", "failed", "stopped", "other"):
        labels = {"provider": carrier.name, "event": event_name}
        assert counted(bridge.application, "bridge_streams_total", **labels) == 1, event_name
    noted = {"provider": carrier.name, "route": "stream", "outcome": "noted", "reason": ""}
    assert counted(bridge.application, "bridge_webhooks_total", **noted) == 4


def test_stale_timestamp_has_its_own_reason() -> None:
    """A wrong clock is told from a wrong key."""
    recorded = signed("telnyx", {"CallSid": "1"}, now=1_600_000_000)
    bridge = client(recorded)
    ring(bridge, recorded)

    labels = {"provider": "telnyx", "route": "voice", "outcome": "refused", "reason": "timestamp"}
    assert counted(bridge.application, "bridge_webhooks_total", **labels) == 1


def test_full_house_is_counted(recorded: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAX_STARTS reached: nobody asked /start, and yet somebody has to be told."""
    bridge = client(recorded, HOLD_ATTEMPTS="0")
    monkeypatch.setattr("threading.BoundedSemaphore.acquire", lambda *_, **__: False)
    full = client(recorded)
    ring(full, recorded)

    assert counted(full.application, "bridge_start_seconds_count", outcome="at_capacity") == 1
    assert counted(full.application, "bridge_start_attempts_total") == 0
    last = full.get("/ready", headers=BEARER).json["last_start"]  # type: ignore[index]
    assert last["outcome"] == "at_capacity"
    assert bridge


def test_last_start_may_have_failed(recorded: Recording) -> None:
    """Its outcome, and how long ago that was."""
    now = [recorded.received_at]
    env = environment(OPERATOR_TOKEN=TOKEN)
    failing = FakeStart(error=StartFailed("unavailable", "status 503"))
    app = create_app(env, failing, FakeLedger(), lambda: now[0])  # type: ignore[arg-type]
    ring(app.test_client(), recorded)
    now[0] += 90

    last = app.test_client().get("/ready", headers=BEARER).json["last_start"]  # type: ignore[index]
    assert last == {"outcome": "unavailable", "seconds_ago": 90}


def test_durations_are_measured(recorded: Recording) -> None:
    """The time that passes, not none."""

    class Slow(FakeStart):
        def start(self, line: Any, provider: str, deadline: float) -> Any:
            time.sleep(0.02)
            return super().start(line, provider, deadline)

    bridge = client(recorded, Slow())
    ring(bridge, recorded)
    labels = {"provider": recorded.provider, "route": "voice"}

    assert counted(bridge.application, "bridge_start_seconds_sum", outcome="session") >= 0.02
    assert counted(bridge.application, "bridge_answer_seconds_sum", **labels) >= 0.02
    assert 4 < counted(bridge.application, "bridge_deadline_left_seconds_sum") < 5


def test_callbacks_are_counted_by_what_became_of_them(
    carrier: type[Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noted, unreadable, or failed."""
    good = signed(carrier.name, {carrier.call_id_field: "1"}, target=f"/{carrier.name}/status")
    nameless = signed(carrier.name, {"x": "1"}, target=f"/{carrier.name}/status")
    bridge = client(good)

    def outcome(word: str) -> float:
        labels = {"provider": carrier.name, "route": "status", "outcome": word, "reason": ""}
        return counted(bridge.application, "bridge_webhooks_total", **labels)

    ring(bridge, good)
    ring(bridge, nameless)
    monkeypatch.setattr(FakeLedger, "note", Mock(side_effect=ZeroDivisionError))
    ring(bridge, good)
    assert [outcome(word) for word in ("noted", "unreadable", "failed")] == [1, 1, 1]


def test_folder_of_counts_costs_no_call(
    recorded: Recording, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that cannot be made, is gone, or is none: this process counts for itself."""
    (tmp_path / "file").write_text("")
    for name in (str(tmp_path / "file" / "x"), "", str(tmp_path / "new")):
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", name)
        bridge = client(recorded)
        if name.endswith("new"):
            shutil.rmtree(name)
        assert ring(bridge, recorded) == 200
        answer = bridge.get("/metrics", headers=BEARER)
        assert b"bridge_start_seconds_count" in answer.data


def test_every_master_has_its_own_folder_of_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """kill -USR2 hands the environment on; a folder of the user's is used, and is left alone."""
    configuration = str(ROOT / "gunicorn.conf.py")
    for inherited, own in (
        ("", True),
        (f"{tmp_path}/bridge-metrics-x", True),
        (str(tmp_path), False),
    ):
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", inherited)
        settings = runpy.run_path(configuration)
        named = os.environ["PROMETHEUS_MULTIPROC_DIR"]
        assert (named != inherited) is own
        if own:
            settings["take_counts_away"]()
            assert not Path(named).exists()
            atexit.unregister(settings["take_counts_away"])
    assert tmp_path.is_dir()


def test_worker_that_ends_leaves_gunicorn_alone(
    gunicorn_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """prometheus-client's hook raises where it has no folder, and would end the master."""
    dead: list[int] = []
    monkeypatch.setattr("prometheus_client.multiprocess.mark_process_dead", dead.append)
    gunicorn_settings["child_exit"](None, Mock(pid=7))
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    gunicorn_settings["child_exit"](None, Mock(pid=8))

    assert dead == [7]


def test_gunicorn_does_not_repeat_what_is_no_request(gunicorn_settings: dict[str, Any]) -> None:
    """A query or a header may be in it."""
    text = "Invalid request from ip=127.0.0.1: Invalid HTTP Header: 'Authorization canary'"
    record = logging.LogRecord("gunicorn.error", 30, "", 1, text, (), None)

    assert gunicorn_settings["without_what_was_sent"](record)
    assert "canary" not in record.getMessage()
    assert "127.0.0.1" in record.getMessage()


def test_first_failure_is_an_increase(carrier: type[Provider]) -> None:
    """Prometheus takes a series that begins at 1 for one that has not changed: all begin at 0."""
    app = create_app(environment(), FakeStart(), FakeLedger())  # type: ignore[arg-type]
    sample = app.extensions["metrics"].registry.get_sample_value
    name = carrier.name
    refused = {"provider": name, "route": "voice", "outcome": "refused", "reason": "signature"}

    assert sample("bridge_webhooks_total", refused) == 0
    assert sample("bridge_unexpected_errors_total", {"provider": name}) == 0
    assert sample("bridge_streams_total", {"provider": name, "event": "failed"}) == 0
    assert sample("bridge_start_seconds_count", {"outcome": "unreachable"}) == 0
    assert sample("bridge_ledger_failures_total", {"kind": "down"}) == 0


def test_ledger_that_is_away_is_counted(recorded: Recording) -> None:
    """By the kind of its failure."""
    app = create_app(
        environment(DATABASE_URL="postgres://127.0.0.1:1/none"),
        FakeStart(),  # type: ignore[arg-type]
        clock=lambda: recorded.received_at,
    )
    ring(app.test_client(), recorded)

    kinds = ("down", "slow", "busy")
    assert sum(counted(app, "bridge_ledger_failures_total", kind=kind) for kind in kinds) >= 1
