"""The events of real nodes: at the command line, over HTTP, and after kills."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import here
import httpx
import nodes
import pytest
from documented import check_data
from nodes import Party, wait_until
from receivers import receiver

MANY = 1_000_000
HOUR = "2026-10-03T10"
COME_BACK = ["recovery.begun", "recovery.done"]


def _events(party: Party, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]]
    found = here.document(party, "events", "--limit", str(MANY), *arguments)["events"]
    return found


def _emit(party: Party, *ids: str) -> None:
    for id in ids:
        here.text(party, "emit", "context-tokens", "5", "--subject", "p", "--id", id)


def _co_signed(party: Party, *, ours: bool) -> list[tuple[int, int]]:
    found = [e["data"] for e in _events(party, "--kind", "delta.cosigned")]
    return [(one["from"], one["to"]) for one in found if one["ours"] == ours]


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        for round_ in range(4):
            for n in range(4):
                _emit(acme, f"{round_}-{n}")
            # The last of them are co-signed and told, or not: whatever the moment is.
            for party in (acme, beta):
                party.kill()
            for party in (acme, beta):
                party.start()
        acme.tally("emit", "context-tokens", "5", "--subject", "p", "--id", "end", "--wait")
        for party, ours in ((acme, True), (beta, False)):
            wait_until(lambda: _co_signed(party, ours=ours)[-1][1] == 18)  # noqa: B023
            ranges = _co_signed(party, ours=ours)
            assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
            opened = [e for e in _events(party) if e["kind"] == "channel.opened"]
            assert len(opened) == 1
            cursors = [e["cursor"] for e in _events(party)]
            assert cursors == list(range(cursors[0], cursors[0] + len(cursors)))
            ids = [e["id"] for e in _events(party)]
            assert len(set(ids)) == len(ids)
        for party in (acme, beta):
            party.stop()
            assert "everything fits" in party.tally("doctor").stdout


def test_a_silent_peer_is_told_once_and_when_it_is_back(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        acme.stop()
        acme.configure("[feed]\nsilent_seconds = 1.0\n")
        acme.start()
        beta.stop()

        def peers() -> list[str]:
            return [e["kind"] for e in _events(acme, "--kind", "peer.*")]

        wait_until(lambda: peers() == ["peer.silent"])
        acme.kill()
        acme.start()
        status = here.document(acme, "status")["channels"][0]
        assert _events(acme, "--channel", status["channel"], "--kind", "peer.*")
        beta.start()
        wait_until(lambda: peers() == ["peer.silent", "peer.back"])


def test_declarations_and_a_verdict_that_is_disputed_are_told(tmp_path: Path) -> None:
    terms = nodes.TERMS.replace(
        'unit = "token"\nsource = "provider"\n[meters.generated-tokens]',
        'unit = "token"\nsource = "provider"\ntolerance = { relative = "1%" }\n'
        "[meters.generated-tokens]",
    )
    with nodes.channel(tmp_path, terms) as (acme, beta):
        for n in range(3):
            arguments = ("--subject", "p", "--id", f"e{n}", "--at", f"{HOUR}:05:00Z", "--wait")
            here.text(acme, "emit", "context-tokens", "100", *arguments)
        for party, total in ((acme, "300"), (beta, "100")):
            totals = ("--total", f"context-tokens={total}", "--total", "generated-tokens=0")
            here.text(party, "declare", HOUR, *totals)
        for party in (acme, beta):
            wait_until(lambda: len(_events(party, "--kind", "declaration.*")) == 4)  # noqa: B023
            kinds = [e["kind"] for e in _events(party, "--kind", "declaration.*")]
            assert sorted(kinds) == ["declaration.made"] * 2 + ["declaration.revealed"] * 2
        here.text(acme, "checkpoint", HOUR, "--force")
        for party in (acme, beta):
            wait_until(lambda: _events(party, "--kind", "discrepancy.*") != [])  # noqa: B023
            (found,) = _events(party, "--kind", "discrepancy.*")
            assert found["data"]["meters"] == ["context-tokens"]
            for event in _events(party):
                check_data(event["kind"], event["data"])


def test_a_restored_home_and_one_of_the_seed_alone_tell_nothing_old(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta), receiver() as there:
        here.text(acme, "webhooks", "add", there.url)
        _emit(acme, "before")
        here.text(acme, "backup", "-o", str(tmp_path / "b"))
        _emit(acme, "after", "and after")
        wait_until(lambda: any(one[1] == 4 for one in _co_signed(acme, ours=True)))
        old = here.document(acme, "events")["last"]
        seed = (acme.home / "seed").read_text()
        acme.kill()
        shutil.rmtree(acme.home)
        here.text(acme, "restore", str(tmp_path / "b"))
        acme.start()
        wait_until(lambda: [e["kind"] for e in _events(acme)] == COME_BACK)
        assert here.document(acme, "events")["events"][0]["cursor"] > old
        code, out, _ = here.tally(acme, "events", "--after", str(old - 2), "--json")
        assert (code, "not kept any more" in out) == (2, True)
        _emit(acme, "new")
        wait_until(lambda: _co_signed(acme, ours=True) == [(4, 5)])
        wait_until(lambda: there.named("delta.cosigned")[-1]["data"]["to"] == 5)
        # A home of the seed alone: the peer returns the channel and all its records.
        acme.kill()
        shutil.rmtree(acme.home)
        (tmp_path / "seed").write_text(seed)
        arguments = ("--name", acme.name, "--seed-file", str(tmp_path / "seed"))
        here.text(acme, "recover", *arguments)
        acme.start()
        nodes.pair(beta, acme)
        wait_until(lambda: "recovery.done" in [e["kind"] for e in _events(acme)])
        _emit(acme, "newer")
        wait_until(lambda: _co_signed(acme, ours=True) == [(5, 6)])
        assert _co_signed(acme, ours=False) == []


@pytest.fixture(scope="module")
def told(pair: tuple[Party, Party]) -> Party:
    """Acme, of the shared pair, with events in its feed."""
    acme, _ = pair
    acme.tally("emit", "context-tokens", "5", "--subject", "p", "--id", "told", "--wait")
    wait_until(lambda: _events(acme, "--kind", "delta.cosigned") != [])
    return acme


@contextmanager
def _client(party: Party, name: str, **headers: str) -> Iterator[httpx.Client]:
    key = here.document(party, "keys", "add", name, "--scope", "read")["key"]
    url = here.document(party, "status")["http"]
    headers = {"Authorization": f"Bearer {key}", **headers}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        yield client


def _frames(lines: Iterator[str], count: int) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        if line.startswith("data: "):
            found.append(json.loads(line.removeprefix("data: ")))
        if len(found) == count:
            break
    return found


def test_the_list_reads_at_eighty_columns_and_without_a_node(told: Party) -> None:
    shown = here.text(told, "events", "--limit", "5").splitlines()
    assert len(shown) >= 2
    assert all(len(line) <= 80 for line in shown)
    assert "is co-signed" in "".join(shown) or "are co-signed" in "".join(shown)


def test_who_follows_is_told_as_it_happens(told: Party) -> None:
    command = told.command("events", "--follow", "--json", "--limit", "1", "--kind", "delta.*")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        first = json.loads(following.stdout.readline())
        _emit(told, "followed")
        second = json.loads(following.stdout.readline())
        assert first["cursor"] < second["cursor"]
        assert second["kind"] == "delta.cosigned"
        following.send_signal(signal.SIGINT)
    assert following.returncode == 130


def test_a_page_goes_on_behind_a_cursor(told: Party) -> None:
    everything = _events(told)
    after = here.document(told, "events", "--after", str(everything[0]["cursor"]), "--limit", "2")
    assert after["events"] == everything[1:3]
    assert after["cursor"] == everything[2]["cursor"]
    code, out, _ = here.tally(told, "events", "--after", "5", "--json")
    assert code == 2
    assert "not kept any more" in json.loads(out)["error"]["message"]
    code, _, said = here.tally(told, "events", "--kind", "delta.cosined")
    assert code == 2
    assert "no kind of event 'delta.cosined'" in said


def test_a_stream_resumes_from_the_last_event_id(told: Party) -> None:
    everything = _events(told)
    start = everything[0]["cursor"]
    with _client(told, "stream") as client:
        with client.stream("GET", f"/v1/events?after={start}&kinds=delta.*") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            (first,) = _frames(answer.iter_lines(), 1)
        assert first == next(e for e in everything[1:] if e["kind"] == "delta.cosigned")
        headers = {"Last-Event-ID": str(first["cursor"])}
        with client.stream("GET", f"/v1/events?after={start}", headers=headers) as answer:
            _emit(told, "more")
            (next_one,) = _frames(answer.iter_lines(), 1)
        assert next_one["cursor"] == first["cursor"] + 1
        page = client.get(
            "/v1/events",
            params={"after": start, "limit": 2},
            headers={"Accept": "application/json"},
        ).json()
        assert page["events"] == everything[1:3]


def test_a_stream_ends_with_its_key(told: Party) -> None:
    key = told.json("keys", "add", "leaving", "--scope", "read")["key"]
    headers = {"Authorization": f"Bearer {key}"}
    base = told.json("status")["http"]
    with httpx.stream("GET", f"{base}/v1/events", headers=headers, timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        told.tally("keys", "remove", "leaving")
        _emit(told, "unseen")
        assert not [line for line in lines if line.startswith("data")]


def test_a_cursor_that_cannot_be_is_a_problem_and_no_stream(told: Party) -> None:
    with _client(told, "problems") as client:
        for asked, status, said in (
            ("after=5", 410, "not kept any more"),
            (f"after={10**17}", 410, "not of this feed"),
            ("after=x", 400, "is not a cursor"),
            ("kinds=nothing", 400, "no kind of event"),
            ("channel=nobody", 404, "no channel matches"),
        ):
            answer = client.get(f"/v1/events?{asked}")
            assert answer.status_code == status, answer.text
            assert said in answer.json()["detail"]


def test_readers_that_do_not_read_and_that_go_away_harm_nobody(told: Party) -> None:
    assert told.process is not None
    files = Path(f"/proc/{told.process.pid}/fd")
    with _client(told, "slow") as client:
        url = urlsplit(str(client.base_url))
        client.get("/v1/status")
        before = _count(files)
        asked = (
            f"GET /v1/events?after={_events(told)[0]['cursor']} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Authorization: {client.headers['Authorization']}\r\n\r\n"
        )
        slow = []
        for _ in range(20):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.connect((url.hostname or "", url.port or 0))
            connection.sendall(asked.encode())
            slow.append(connection)
        wait_until(lambda: _count(files) >= before + 20)
        _emit(told, *(f"slow-{n}" for n in range(4)))
        with client.stream("GET", f"/v1/events?after={_events(told)[-1]['cursor']}") as answer:
            _emit(told, "past")
            assert _frames(answer.iter_lines(), 1)[0]["kind"] == "delta.cosigned"
        for connection in slow:
            connection.close()
        _emit(told, "so that the closed ones are noticed")
        wait_until(lambda: _count(files) <= before + 2)
