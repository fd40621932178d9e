"""The dashboard and the alerts ask for what /metrics really tells."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from bridge.errors import StartFailed
from tests.conftest import BY_NAME, FIRST_OF, ROOT, FakeLedger, FakeStart, environment, signed

ALERTS = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text("utf-8"))
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text("utf-8"))
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
QUERIES = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    },
}
FROM_PROMETHEUS = {"up": {"job": {"bridge"}}}
Samples = dict[str, dict[str, set[str]]]  # metric: label: the values that were seen


@pytest.fixture(scope="module")
def told() -> Samples:
    """What a bridge tells after something of everything has happened."""
    start = FakeStart()
    app = create_app(
        environment(OPERATOR_TOKEN="an-operators-token"),
        start,  # type: ignore[arg-type]
        FakeLedger(),  # type: ignore[arg-type]
        lambda: 1_700_000_000,
    )
    client = app.test_client()
    errors = (
        None,
        StartFailed("at_capacity", "full"),
        StartFailed("refused", "no"),
        ZeroDivisionError(),
    )
    for name, recorded in FIRST_OF.items():
        carrier = BY_NAME[name]
        for number, start.error in enumerate(errors):
            ring = signed(name, {carrier.call_id_field: str(number)})
            client.post(ring.target, headers=ring.headers, data=ring.body)
        client.post(recorded.target, headers=recorded.headers, data=recorded.body + "0")
        client.post(recorded.target, data=recorded.body)
        for word in carrier.stream_events:
            fields = {carrier.call_id_field: "1", carrier.stream_event_field: word}
            event = signed(name, fields, target=f"/{name}/stream")
            client.post(event.target, headers=event.headers, data=event.body)
    app.extensions["metrics"].ledger_failed("slow")
    answer = client.get("/metrics", headers={"Authorization": "Bearer an-operators-token"})
    samples: Samples = {name: dict(labels) for name, labels in FROM_PROMETHEUS.items()}
    for family in text_string_to_metric_families(answer.text):
        for sample in (s for s in family.samples if not s.name.endswith("_created")):
            labels = samples.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return samples


def walk(expression: Any) -> Iterator[Any]:
    """Yield an expression and everything inside it."""
    yield expression
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        inner = getattr(expression, name, None)
        if inner is not None:
            yield from walk(inner)
    for argument in getattr(expression, "args", []):
        yield from walk(argument)


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_query_asks_for_what_is_there(name: str, told: Samples) -> None:
    """Every metric, every label, and every value that a label is compared with."""
    metrics = 0
    grouped: set[str] = set()
    labels: set[str] = {"le"}
    for part in walk(promql_parser.parse(QUERIES[name])):
        if isinstance(part, promql_parser.VectorSelector):
            metrics += 1
            assert part.name in told, f"{part.name} is not told"
            labels |= told[part.name].keys()
            for matcher in part.matchers.matchers:
                assert matcher.name in told[part.name], f"{part.name} has no {matcher.name}"
                for value in matcher.value.split("|"):
                    assert value in told[part.name][matcher.name], f"{matcher.name}={value}"
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier:
            grouped |= set(part.modifier.labels)
    assert metrics
    assert grouped <= labels


def test_messages_name_labels_that_the_query_keeps() -> None:
    """An alert about "{{ $labels.provider }}" says which one."""
    for rule in RULES:
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert re.search(rf"by \([^)]*\b{label}\b", rule["expr"]), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_metric_is_documented_and_asked_for(told: Samples) -> None:
    """docs/operations.md and the dashboard know each; no more and no fewer."""
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in told if name != "up"}
    documented = set(re.findall(r"^\| `(bridge_\w+)`", OPERATIONS, re.MULTILINE))
    shown = {re.sub(r"_(bucket|count|sum)$", "", m) for q in QUERIES.values() for m in names(q)}

    assert documented == ours
    assert shown == ours


def names(query: str) -> set[str]:
    """Return the metrics of ours that a query asks for."""
    return set(re.findall(r"\bbridge_\w+", query))


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: Prometheus'")
def test_prometheus_itself_reads_the_rules() -> None:
    """promtool finds nothing wrong with deploy/alerts.yaml."""
    command = ["promtool", "check", "rules", "deploy/alerts.yaml"]
    result = subprocess.run(command, cwd=Path(ROOT), capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
