"""tally declare, between two real nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodes
import pytest

PERIOD = "2024-03-01T10"
MAPPING = """\
time    = { column = "time", zone = "UTC" }
subject = { column = "subject" }
[[meter]]
meter = "context-tokens"
quantity = { column = "tokens" }
"""

Pair = tuple[nodes.Party, nodes.Party]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes of this file's own: it closes periods, and none before them."""
    with nodes.channel(tmp_path_factory.mktemp("pair")) as parties:
        yield parties


def usage(folder: Path, *rows: str) -> list[str]:
    """A file of usage and its mapping, as arguments."""
    file, mapping = folder / "usage.csv", folder / "map.toml"
    file.write_text("\n".join(["time,subject,tokens", *rows]) + "\n")
    mapping.write_text(MAPPING)
    return [str(file), "--map", str(mapping)]


def totals(party: nodes.Party, period: str) -> tuple[Any, Any]:
    document = party.json("declare", period, "--show")
    return document["provider"]["totals"], document["consumer"]["totals"]


def test_a_file_is_counted_and_both_reveal_by_themselves(pair: Pair, tmp_path: Path) -> None:
    acme, beta = pair
    file = usage(
        tmp_path,
        f"{PERIOD}:00:00Z,a,5",
        f"{PERIOD}:59:59.999999Z,b,7",
        f"{PERIOD}:59:59Z,b,7",
        "2024-03-01T11:00:00Z,b,100",
        f"{PERIOD}:00:00Z,b,many",
    )
    first = acme.json("declare", PERIOD, *file)
    assert first["counted"] == {
        "events": 3,
        "elsewhere": 1,
        "rejected": 1,
        "first_reject": "row 5, tokens: 'many' is not a decimal number",
    }
    assert first["kept"] == {"context-tokens": "19"} and not first["again"]
    assert acme.json("declare", PERIOD, *file)["index"] == first["index"]
    theirs = beta.json("declare", PERIOD, "--show")
    assert (theirs["provider"]["totals"], theirs["kept"]) == (None, None)
    beta.tally("declare", PERIOD, "--total", "context-tokens=19", "--total", "generated-tokens=0")
    both = ({"context-tokens": "19"}, {"context-tokens": "19", "generated-tokens": "0"})
    for party in pair:
        nodes.wait_until(lambda party=party: totals(party, PERIOD) == both)
    verdicts = [party.json("declare", PERIOD, "--show")["verdict"] for party in pair]
    assert verdicts[0] == verdicts[1]
    assert [m["result"] for m in verdicts[0]["meters"]] == ["agreed", "declared by one"]
    shown = beta.tally("declare", PERIOD, "--show").stdout
    assert "context-tokens: agreed: both counted 19 token; payable 0" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["2024-03-01T12"], "what do you declare?"),
        (["2024-03-01T12", "usage.csv"], "read by a mapping"),
        (["2024-03-01T12", "usage.csv", "--map", "m", "--total", "a=1"], "what do you declare?"),
        (["2024-03-01T12", "--show", "--early"], "--show declares nothing"),
        (["2024-03-01T12", "--total", "context-tokens"], "is not a total"),
        (["2024-03-01T12", "--total", "tokens=1"], "no meter 'tokens'"),
        (["2024-03-01T12", "--total", "context-tokens=1.5"], "more decimal places"),
        (["2024-03-01T12", *["--total", "context-tokens=1"] * 2], "two totals of context-tokens"),
        (["2024-03", "--total", "context-tokens=1"], "is not a hour"),
        (["2999-03-01T12", "--total", "context-tokens=1"], "is not over by the clock here"),
        (["2024-03", "--show"], "is not a hour"),
    ],
)
def test_wrong_use(pair: Pair, arguments: list[str], said: str) -> None:
    size = pair[0].json("status")["channels"][0]["own"]["size"]
    done = pair[0].tally("declare", *arguments, check=False)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert pair[0].json("status")["channels"][0]["own"]["size"] == size


def test_a_node_killed_after_it_declared_reveals_when_it_is_back(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        acme.tally("emit", "context-tokens", "19", "--subject", "a", "--id", "e1",
                   "--at", f"{PERIOD}:30:00Z", "--wait")  # fmt: skip
        acme.tally("declare", PERIOD, "--total", "context-tokens=19")
        acme.kill()
        beta.tally("declare", PERIOD, "--total", "context-tokens=20")
        assert acme.json("declare", PERIOD, "--show")["kept"] == {"context-tokens": "19"}
        acme.start()
        both = ({"context-tokens": "19"}, {"context-tokens": "20"})
        nodes.wait_until(lambda: totals(beta, PERIOD) == both == totals(acme, PERIOD))
        refused = beta.tally("declare", PERIOD, "--total", "context-tokens=19", check=False)
        assert refused.returncode == 2 and "has revealed its totals" in refused.stderr
        lines = [party.json("derive")["lines"] for party in (acme, beta)]
        assert lines[0] == lines[1] and lines[0][0]["status"] == "disputed"
        closed = acme.tally("checkpoint", PERIOD).stdout
        assert "\nverdict:\n  context-tokens: disputed: acme.example counted 19" in closed
        document = beta.json("checkpoint", PERIOD)
        assert document["verdict"]["meters"][0]["status"] == "disputed"
        bundle = tmp_path / "period.tally"
        beta.tally("bundle", PERIOD, "-o", str(bundle), "--full")
        checks = json.loads(acme.tally("verify", str(bundle), "--json").stdout)["checks"]
        assert [check["name"] for check in checks if not check["ok"]] == []
        assert checks[6]["detail"] == "context-tokens disputed; generated-tokens not declared"
        assert checks[11]["name"] == "declarations"
        status = acme.json("prove", "--line", f"{PERIOD}/context-tokens/a", "-o", str(tmp_path))
        assert status["status"] == "disputed"
        late = acme.tally("declare", PERIOD, "--total", "context-tokens=1", check=False)
        assert late.returncode == 2 and "is closed" in late.stderr
