"""Disputes between two real nodes at the command line, with clocks of two seconds and of days."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import nodes
import pytest
from nodes import Party

from tallystick.node import cli

HOUR = "2026-10-03T10"
LINE = f"{HOUR}/context-tokens/p7"
AT = "2026-10-03T10:05:00Z"
CLOCKS = '[clocks]\ngrace = "0s"\ndispute = "2s"\nanswer = "2s"\n[meters.context-tokens]'
QUICK = nodes.TERMS.replace("[meters.context-tokens]", CLOCKS)

Pair = tuple[Party, Party, str, str]


def _tally(party: Party, *arguments: str) -> tuple[int, str, str]:
    """A verb's exit code, output and errors; run in this process, which saves much time."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli._run(["--home", str(party.home), *arguments])
    return code, out.getvalue(), err.getvalue()


def _text(party: Party, *arguments: str) -> str:
    """What a verb that works prints."""
    code, out, err = _tally(party, *arguments)
    assert code == 0, err
    return out


def _json(party: Party, *arguments: str) -> Any:
    """A verb's JSON document."""
    return json.loads(_text(party, *arguments, "--json"))


@pytest.fixture(scope="module")
def quarrel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Acme and beta with a channel whose clocks run for days, and one whose clocks do not."""
    with nodes.channel(tmp_path_factory.mktemp("quarrel")) as (acme, beta):
        slow = _json(acme, "status")["channels"][0]["channel"]
        quick = nodes.found(acme, beta, QUICK)
        for channel in (slow, quick):
            for n in range(3):
                _text(acme,
                    "emit", "context-tokens", str(100 + n), "--subject", "p7", "--id", f"e{n}",
                    "--at", AT, "--channel", channel, "--wait",
                )  # fmt: skip
        yield acme, beta, slow, quick


def _listed(party: Party, channel: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _json(party, "disputes", "--all", "--channel", channel)[
        "disputes"
    ]
    return found


def _derived(pair: Pair, channel: str) -> dict[str, Any]:
    """The one line of the hour, which both derive with the same digest."""
    documents = [_json(party, "derive", "--channel", channel) for party in pair[:2]]
    assert documents[0]["digest"] == documents[1]["digest"]
    line: dict[str, Any] = documents[0]["lines"][0]
    return line


def _verified(party: Party, folder: Path, channel: str, name: str, *more: str) -> str:
    """The certificate of a name, written and verified; what it means."""
    file = folder / "file"
    _text(party, "certificate", name, "-o", str(file), "--channel", channel, *more)
    document = _json(party, "verify", str(file))
    assert document["ok"] is True
    detail: str = document["checks"][-1]["detail"]
    return detail


def test_a_dispute_is_filed_answered_insisted_on_and_settled(quarrel: Pair, tmp_path: Path) -> None:
    acme, beta, slow, _ = quarrel
    file = ("dispute", "--line", LINE, "--amount", "50", "--code", "quantity", "--reason", "down",
            "--channel", slow)  # fmt: skip
    filed = _json(beta, *file)
    name = filed["dispute"]["dispute"][:7]
    assert (filed["state"], filed["dispute"]["peppol"]["code"]) == ("recorded", "QTY")
    assert filed["dispute"]["until"] is not None
    again = _json(beta, *file)
    assert (again["state"], again["index"]) == ("there already", filed["index"])
    nodes.wait_until(lambda: _listed(acme, slow))
    work = _text(acme, "disputes", "--channel", slow)
    assert "waits for you to answer until" in work
    assert max(map(len, work.splitlines())) <= 80
    assert (_derived(quarrel, slow)["payable"], _derived(quarrel, slow)["disputed"]) == (
        "253", "50",
    )  # fmt: skip
    said = _text(acme, "answer", name, "--concede", "20", "--reason", "one was", "--record",
                      "context-tokens/e1", "--channel", slow)  # fmt: skip
    assert "concedes 20" in said
    nodes.wait_until(lambda: _listed(beta, slow)[0]["state"] == "answered")
    _text(beta, "answer", name, "--insist", "--reason", "both were", "--channel", slow)
    nodes.wait_until(lambda: _listed(acme, slow)[0]["state"] == "contested")
    _text(acme, "resolve", name, "--amount", "35", "--reason", "half way", "--channel", slow)
    _text(beta, "resolve", name, "--amount", "35", "--reason", "fine", "--channel", slow)
    nodes.wait_until(lambda: _listed(acme, slow)[0]["state"] == "resolved")
    nodes.wait_until(lambda: _listed(beta, slow)[0]["state"] == "resolved")
    assert _derived(quarrel, slow)["payable"] == "268"
    assert "dispute " not in _text(acme, "disputes", "--channel", slow)
    answers = [r["index"] for r in _json(acme, "log", "--channel", slow)["records"]
               if r["kind"] == "answer"]  # fmt: skip
    folder = tmp_path / "proof"
    _text(acme, "prove", "--record", str(answers[0]), "-o", str(folder), "--channel", slow)
    assert len(list(folder.iterdir())) == 2
    shown = _text(beta, "log", "--channel", slow)
    for kind in ("dispute", "answer", "resolution"):
        assert f" {kind} " in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--line", LINE, "--amount", "9999", "--code", "quantity"), "are payable there"),
        (("--line", f"{HOUR}/context-tokens/x", "--amount", "1", "--code", "other"), "no balance"),
        (("--line", LINE, "--code", "other"), "--amount"),
        (("--amount", "5", "--code", "other"), "records"),
        (("context-tokens/e0", "--code", "price"), "quantity, reference, other"),
        (("context-tokens/none", "--code", "other"), "no delta"),
    ],
)
def test_what_cannot_be_disputed_is_refused(
    quarrel: Pair, arguments: tuple[str, ...], said: str
) -> None:
    _, beta, slow, _ = quarrel
    code, _, err = _tally(beta, "dispute", *arguments, "--reason", "x", "--channel", slow)
    assert code == 2
    assert said in " ".join(err.split())


def test_what_passed_in_silence_lapses_once_whatever_is_killed(
    quarrel: Pair, tmp_path: Path
) -> None:
    acme, beta, _, quick = quarrel
    filed = _json(beta, "dispute", "context-tokens/e1", "--code", "other", "--reason", "never sent",
                      "--channel", quick)  # fmt: skip
    beta.kill()
    beta.start()
    nodes.wait_until(lambda: [one["state"] for one in _listed(acme, quick)] == ["upheld"])
    beta.kill()
    beta.start()
    name = filed["dispute"]["dispute"]
    assert "upheld for want of an answer" in _verified(acme, tmp_path, quick, name)
    assert _derived(quarrel, quick)["payable"] == "202"
    nodes.wait_until(lambda: _json(beta, "status")["channels"][1]["state"] == "open")
    _text(acme, "checkpoint", HOUR, "--force", "--channel", quick)
    nodes.wait_until(
        lambda: (
            not _json(acme, "disputes", "--channel", quick)["checkpoints"]
            and not _json(beta, "disputes", "--channel", quick)["checkpoints"]
        )
    )
    said = _verified(acme, tmp_path, quick, HOUR)
    assert "beta.example is deemed to have accepted it" in said
    assert "acme.example is deemed" in _verified(acme, tmp_path, quick, HOUR, "--theirs")
    late = ("--line", LINE, "--amount", "5", "--code", "other", "--reason", "late")
    code, _, err = _tally(beta, "dispute", *late, "--channel", quick)
    assert (code, "not disputed in time" in err) == (2, True)
    bundle = tmp_path / "full.tally"
    _text(acme, "bundle", HOUR, "--full", "-o", str(bundle), "--channel", quick)
    assert _json(acme, "verify", str(bundle))["ok"] is True
    records = _json(beta, "log", "--count", "100", "--channel", quick)["records"]
    lapsed = [record["of"] for record in records if record["kind"] == "lapse"]
    assert len(lapsed) == len(set(lapsed)) == 2
    for party in (acme, beta):
        assert _json(party, "doctor")["ok"] is True
