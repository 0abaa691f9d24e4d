"""Webhooks of real nodes, at the command line, and killed in the middle of deliveries."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import here
import nodes
import pytest
from nodes import Party, wait_until
from pacspace_sdk.webhooks import Webhooks as TheirWebhooks
from receivers import Handler, Receiver, Request, failing, ok, receiver

CONFIG = "[webhooks]\nfirst_retry_seconds = 0.05\ntimeout_seconds = 2.0\n"
DELTAS = 120


def test_kills_in_the_middle_of_deliveries_lose_nothing_and_keep_the_order(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta), receiver() as there:
        acme.configure(CONFIG)
        acme.kill()
        acme.start()
        made = here.document(
            acme, "webhooks", "add", there.url, "--events", "delta.verified,delta.cosigned"
        )
        there.answer = _Moody(Random(5))
        rows = ["time,id,q"] + [f"2026-10-03T10:00:00Z,d{n},{n + 1}" for n in range(DELTAS)]
        (tmp_path / "usage.csv").write_text("\n".join(rows) + "\n")
        (tmp_path / "map.toml").write_text(
            'time = { column = "time", zone = "UTC" }\nid = { column = "id" }\n'
            'subject = { value = "p" }\n[[meter]]\nmeter = "context-tokens"\n'
            'quantity = { column = "q" }\n'
        )
        here.text(acme, "import", str(tmp_path / "usage.csv"), "--map", str(tmp_path / "map.toml"))
        for enough in (10, 40, 80):
            wait_until(lambda: len(_first(there, "delta.verified")) >= enough, 120)  # noqa: B023
            acme.kill()
            if enough == 40:
                beta.kill()
                beta.start()
            acme.start()
        wait_until(lambda: len(_first(there, "delta.verified")) == DELTAS, 120)
        verified = _first(there, "delta.verified")
        assert [one["data"]["referenceId"] for one in verified] == [f"d{n}" for n in range(DELTAS)]
        assert [one["data"]["delta"] for one in verified] == [n + 1 for n in range(DELTAS)]
        wait_until(lambda: _reached(there) > DELTAS)
        cursors = [one["data"]["cursor"] for one in _first(there, "delta.cosigned")]
        assert cursors == sorted(cursors)
        bodies: dict[str, str] = {}
        theirs = TheirWebhooks(made["secret"])
        for request in there.requests:
            body = theirs.verify_from_headers(request.headers, request.raw)
            assert bodies.setdefault(body["id"], request.raw) == request.raw
        acme.stop()
        assert "everything fits" in here.text(acme, "doctor")


class _Moody:
    """Takes most of what comes, refuses some, and closes on others."""

    def __init__(self, dice: Random) -> None:
        self._dice, self._lock = dice, threading.Lock()
        self.taken: list[str] = []

    def __call__(self, handler: Handler, request: Request) -> None:
        with self._lock:
            mood = self._dice.random()
        time.sleep(0.002)
        if mood < 0.1:
            handler.reply(503)
        elif mood < 0.15:
            handler.connection.close()
        else:
            handler.reply(200)


def _first(there: Receiver, event: str) -> list[dict[str, object]]:
    """The bodies of a kind, each where it came first."""
    found = {one["id"]: one for one in reversed(there.named(event))}
    return list(reversed(found.values()))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def acme(pair: tuple[Party, Party]) -> Iterator[Party]:
    """Acme of the shared pair, without endpoints afterwards."""
    yield pair[0]
    for one in here.document(pair[0], "webhooks", "list")["endpoints"]:
        here.text(pair[0], "webhooks", "remove", one["id"])


def _emit(party: Party, id: str) -> int:
    """Record a delta; the log's size once it is co-signed."""
    here.text(party, "emit", "context-tokens", "5", "--subject", "p", "--id", id, "--wait")
    size: int = here.document(party, "status")["channels"][0]["own"]["size"]
    return size


def _reached(there: Receiver) -> int:
    """Up to where it was told of our log."""
    found = [one["data"] for one in there.named("delta.cosigned")]
    return max((data["to"] for data in found if data["ours"]), default=0)


def _told(party: Party) -> int:
    """Up to where the feed has told of our log."""
    found = here.document(party, "events", "--kind", "delta.cosigned")["events"]
    sizes: list[int] = [one["data"]["to"] for one in found if one["data"]["ours"]]
    return max(sizes, default=0)


def test_an_endpoint_from_adding_to_removing(acme: Party) -> None:
    with receiver() as there:
        added = here.text(acme, "webhooks", "add", there.url, "--events", "delta.cosigned")
        id, secret = added.split()[0], added.split()[3]
        assert (acme.home / "webhooks.json").stat().st_mode & 0o777 == 0o600
        assert here.text(acme, "webhooks", "test", id) == f"{there.url} answered 200.\n"
        theirs = TheirWebhooks(secret)
        assert theirs.verify_from_headers(there.requests[0].headers, there.requests[0].raw)
        size = _emit(acme, "hooked")
        wait_until(lambda: _reached(there) == size)
        rotated = here.document(acme, "webhooks", "rotate-secret", id)
        size = _emit(acme, "rotated")
        wait_until(lambda: _reached(there) == size)
        for one in (secret, rotated["secret"]):
            last = there.requests[-1]
            assert TheirWebhooks(one).verify_from_headers(last.headers, last.raw)
        listed = here.text(acme, "webhooks")
        shown = here.text(acme, "webhooks", "deliveries")
        assert id in listed
        assert secret not in listed + shown
        assert "delivered" in shown
        assert all(len(line) <= 80 for line in (listed + shown).splitlines())
        last_id = json.loads(there.requests[-1].raw)["id"]
        assert here.text(acme, "webhooks", "replay", last_id) == "One is sent again.\n"
        wait_until(lambda: [one.body["id"] for one in there.requests].count(last_id) == 2)
        assert "Removed" in here.text(acme, "webhooks", "remove", id)
        later = _emit(acme, "removed")
        wait_until(lambda: _told(acme) == later)
        assert _reached(there) == size


def test_the_dead_are_shown_and_sent_again(acme: Party) -> None:
    with receiver() as there:
        there.answer = failing(410, b"moved")
        made = here.document(acme, "webhooks", "add", there.url, "--events", "delta.cosigned")
        _emit(acme, "dead")
        wait_until(lambda: here.document(acme, "webhooks", "deliveries", "--dead")["deliveries"])
        dead = here.document(acme, "webhooks", "deliveries", "--dead")["deliveries"]
        assert {(one["endpoint"], one["said"]) for one in dead} == {(made["id"], "410: moved")}
        assert here.document(acme, "webhooks", "list")["endpoints"][0]["dead"] >= 1
        there.answer = ok
        assert here.document(acme, "webhooks", "replay", "--dead")["replaying"] >= 1
        wait_until(
            lambda: here.text(acme, "webhooks", "deliveries", "--dead") == "Nothing is dead.\n"
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "http://billing.example/"), "unencrypted"),
        (("add", "https://billing.example/", "--events", "nothing"), "no kind of event 'nothing'"),
        (("add", "https://billing.example/", "--channel", "nobody"), "no channel matches"),
        (("test", "whk_none"), "no endpoint is called"),
        (("remove", "whk_none"), "no endpoint is called"),
        (("rotate-secret", "whk_none"), "no endpoint is called"),
        (("replay",), "what is to be sent again"),
        (("replay", "evt_none"), "no delivery is called"),
        (("replay", "evt_none", "--dead"), "what is to be sent again"),
    ],
)
def test_mistakes_say_what_is_wrong(acme: Party, arguments: tuple[str, ...], said: str) -> None:
    before = here.document(acme, "webhooks", "list")
    code, _, error = here.tally(acme, "webhooks", *arguments)
    assert code == 2
    assert said in " ".join(error.split())
    assert here.document(acme, "webhooks", "list") == before
