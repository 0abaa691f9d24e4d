"""The example alerts and the dashboard ask for metrics that exist, and the page explains each."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tallystick.node.telemetry.metrics import METRICS

DOCS = Path(__file__).parents[3] / "docs"
ALERTS = (DOCS / "monitoring" / "alerts.yml").read_text()
PAGE = (DOCS / "monitoring.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((DOCS / "monitoring" / "dashboard.json").read_text())

_PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def _promtool(*arguments: str, folder: Path = DOCS / "monitoring") -> None:
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def _given() -> set[str]:
    """Every name that a scrape gives."""
    names = set()
    for metric in METRICS:
        parts = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {metric.full_name + part for part in parts}
    return names


def _asked(text: str) -> set[str]:
    return set(re.findall(r"tallystick_[a-z_]+", text))


def _alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", ALERTS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_on_the_page(metric: Any) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("|") and
              f"`{metric.name}`" in line.split("|")[1]]  # fmt: skip
    _, _, kind, labels, meaning, _ = row.split("|")
    assert kind.strip() == metric.kind
    assert tuple(filter(None, labels.strip().split(", "))) == metric.labels
    assert meaning.strip()


def test_the_page_has_no_metric_that_is_gone() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert named == {metric.name for metric in METRICS}


def test_alerts_ask_for_metrics_that_exist() -> None:
    assert _asked(ALERTS) - _given() == set()
    assert len(_alerts()) > 15


def test_the_page_says_what_to_do_for_each_alert() -> None:
    assert re.findall(r"^### (Tallystick\w+)$", PAGE, re.MULTILINE) == sorted(
        _alerts(), key=lambda name: PAGE.index(f"### {name}\n")
    )


def test_each_alert_is_tested_both_ways() -> None:
    tests = (DOCS / "monitoring" / "alerts_test.yml").read_text()
    for name in _alerts():
        assert f"- name: {name} fires" in tests
        assert f"- name: {name} is quiet" in tests


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    assert len(_queries()) > 20
    for query in _queries():
        assert _asked(query) or "process_" in query
        assert _asked(query) - _given() == set()
    (asked,) = [
        v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"
    ]
    assert _asked(asked) - _given() == set()


def test_panels_do_not_overlap() -> None:
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


@_PROMTOOL
def test_promtool_takes_the_rules() -> None:
    _promtool("check", "rules", "alerts.yml")


@_PROMTOOL
def test_alerts_fire_and_are_quiet() -> None:
    _promtool("test", "rules", "alerts_test.yml")


@_PROMTOOL
def test_promtool_takes_the_dashboards_queries(tmp_path: Path) -> None:
    rules = ["groups:", "  - name: dashboard", "    rules:"]
    for number, query in enumerate(_queries()):
        plain = query.replace("$__rate_interval", "5m").replace("$instance", ".*")
        rules += [f"      - record: query:{number}", f"        expr: {json.dumps(plain)}"]
    (tmp_path / "rules.yml").write_text("\n".join(rules) + "\n")
    _promtool("check", "rules", "rules.yml", folder=tmp_path)
