"""Events on their way to endpoints: order, failures, restarts, the dead and their return."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import builders
import homes
import pytest
import trio
from feeding import all_events, fed, told, until
from homes import Side
from pacspace_sdk.webhooks import Webhooks as TheirWebhooks
from receivers import Handler, Receiver, Request, failing, hang, ok, receiver

from tallystick.node.config import Config, WebhooksConfig
from tallystick.node.errors import EndpointError
from tallystick.node.feed import feed as feed_module
from tallystick.node.feed.feed import Feed
from tallystick.node.feed.rows import prune
from tallystick.node.importing.drafts import Draft
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import UnplacedRow, encode_row, index_key
from tallystick.node.webhooks import webhooks as webhooks_module
from tallystick.node.webhooks.deliveries import list_deliveries
from tallystick.node.webhooks.endpoints import Endpoint, add_endpoint, remove_endpoint
from tallystick.node.webhooks.lanes import RETRY_MAX_SECONDS, backoff
from tallystick.node.webhooks.status import dead_of, waiting_of
from tallystick.node.webhooks.webhooks import Webhooks
from tallystick.protocol.records import Correction, Delta, encode_record

QUICK = WebhooksConfig(first_retry_seconds=0.01, timeout_seconds=20, attempts=100)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "PAUSE_SECONDS", 0.01)


@asynccontextmanager
async def _hooked(
    side: Side, feed: Feed, config: WebhooksConfig = QUICK
) -> AsyncIterator[Webhooks]:
    """The webhooks of a side, running."""
    side.books.config = Config(webhooks=config)
    made = Webhooks(side.home.path, side.books, feed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()
    feed.on_growth.clear()


def _add(side: Side, there: Receiver, after: int, *events: str, channel: str = "") -> Endpoint:
    return add_endpoint(side.home.path, there.url, list(events), channel, after, 0)


async def _emit(a: Side, b: Side, *names: str, quantity: int = 100) -> None:
    drafts = [Draft(name, "tokens", "s1", quantity, builders.OCTOBER_US) for name in names]
    await a.channel.emit(drafts)
    await homes.exchange(a, b)


def _cursors(there: Receiver) -> list[int]:
    return [one.body["data"]["cursor"] for one in list(there.requests)]


def _deliveries(side: Side, *states: str) -> list[dict[str, Any]]:
    return list_deliveries(side.books.store, list(states), 1000)


async def test_all_events_arrive_once_in_order_and_signed(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            made = _add(a, there, feed.last)
            async with _hooked(a, feed):
                for n in range(8):
                    await _emit(a, b, f"t{n}")
                    await _emit(b, a, f"u{n}")
                await told(feed)
                wanted = [e for e in all_events(feed) if e.cursor > made.after and e.channel]
                await until(lambda: len([c for c in _cursors(there) if c]) > len(wanted))
            by_channel = [one for one in there.requests if one.body["data"]["channel"]]
            assert [one.body["data"]["cursor"] for one in by_channel] == [e.cursor for e in wanted]
            assert [one.body["id"] for one in by_channel] == [e.id for e in wanted]
            for one in there.requests:
                verified = TheirWebhooks(made.secrets[0].text).verify_from_headers(
                    one.headers, one.raw
                )
                assert set(verified) == {"id", "event", "tenantId", "createdAt", "data"}
                assert verified["tenantId"] == "acme.example"


async def test_a_failing_event_holds_up_its_channel_there_and_nothing_else(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there, receiver() as other:
            await told(feed)
            _add(a, there, feed.last)
            _add(a, other, feed.last, "delta.*")
            there.answer = _refuse_channels
            async with _hooked(a, feed):
                await _emit(a, b, "t1")
                await until(lambda: len(there.named("delta.cosigned")) > 3)
                await _emit(a, b, "t2")
                await told(feed)  # an event of no channel
                await until(lambda: there.named("peer.back") != [])
                await until(lambda: len(other.requests) == 2)
                assert len({one["id"] for one in there.named("delta.cosigned")}) == 1
                made = [e for e in all_events(feed) if e.kind == "delta.cosigned"][-2:]
                there.answer = ok
                await until(lambda: there.named("delta.cosigned")[-1]["id"] == made[1].id)
            assert [one["id"] for one in other.named("delta.cosigned")] == [e.id for e in made]
            attempts = [
                (one.body["id"], int(one.headers["x-tallystick-attempt"]))
                for one in there.requests
                if one.body["event"] == "delta.cosigned"
            ]
            failed = len(attempts) - 1
            assert attempts[:-1] == [(made[0].id, n) for n in range(1, failed + 1)]
            assert attempts[-1] == (made[1].id, 1)
            assert len({one.raw for one in there.requests if made[0].id in one.raw}) == 1


def _refuse_channels(handler: Handler, request: Request) -> None:
    handler.reply(500 if request.body["data"]["channel"] else 200)


async def test_an_endpoint_that_hangs_delays_no_other(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as slow, receiver() as quick:
            slow.answer = hang
            await told(feed)
            for _ in range(3):
                _add(a, slow, feed.last)
            _add(a, quick, feed.last, "delta.*")
            async with _hooked(a, feed, WebhooksConfig(timeout_seconds=60)):
                for n in range(5):
                    await _emit(a, b, f"t{n}")
                await until(lambda: _ends(quick) == [6])
                assert len(slow.requests) <= 6
                slow.stopping.set()


def _ends(there: Receiver) -> list[int]:
    return [one["data"]["to"] for one in there.named("delta.cosigned")][-1:]


async def test_what_is_given_up_is_listed_and_can_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            made = _add(a, there, feed.last, "delta.*")
            there.answer = failing(503, b"full", Retry_After="0")
            config = WebhooksConfig(first_retry_seconds=0.01, attempts=3)
            async with _hooked(a, feed, config) as hooks:
                await _emit(a, b, "t1")
                await until(lambda: len(_deliveries(a, "dead")) == 1)
                there.answer = ok
                await _emit(a, b, "t2")
                await until(lambda: len(_deliveries(a, "delivered")) == 1)
                (dead,) = _deliveries(a, "dead")
                assert (dead["attempts"], dead["said"]) == (3, "503: full")
                assert dead_of(a.books.store, made) == 1
                with pytest.raises(EndpointError, match="no delivery is called"):
                    await hooks.replay("evt_nothing")
                assert await hooks.replay(None) == 1
                await until(lambda: _deliveries(a, "dead", "replaying") == [])
                assert dead["id"] in [one["id"] for one in _deliveries(a, "delivered")]
                assert len({one.raw for one in there.requests if dead["id"] in one.raw}) == 1
                # One that arrived can be sent again as well; one that fails goes back to the dead.
                monkeypatch.setattr(webhooks_module, "REPLAY_ATTEMPTS", 2)
                there.answer = failing(500)
                assert await hooks.replay(dead["id"]) == 1
                await until(lambda: len(_deliveries(a, "dead")) == 1)
                assert _deliveries(a, "dead")[0]["attempts"] == 2
                assert await hooks.replay(None) == 1


async def test_a_receiver_that_says_gone_is_believed_at_once(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            _add(a, there, feed.last, "delta.*")
            there.answer = failing(410)
            async with _hooked(a, feed):
                await _emit(a, b, "t1")
                await until(lambda: len(_deliveries(a, "dead")) == 1)
                assert len(there.requests) == 1


async def test_what_is_too_old_is_given_up_after_one_attempt(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            _add(a, there, feed.last, "delta.*")
            there.answer = failing(500)
            for n in range(3):
                await _emit(a, b, f"t{n}")
                await told(feed)
            a.now_us += 4 * builders.DAY_US
            async with _hooked(a, feed):
                await until(lambda: len(_deliveries(a, "dead")) == 3)
                assert len(there.requests) == 3


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            made = _add(a, there, feed.last, "delta.*")
            there.answer = failing(500)
            async with _hooked(a, feed):
                await _emit(a, b, "t1")
                await until(lambda: len(there.requests) > 2)
                await a.books.store.commit(lambda txn: None)
            (waiting,) = waiting_of(a.books.store, made)
            assert waiting["attempts"] >= 2
            assert waiting["said"] == "500: no"
            await _emit(a, b, "t2")
            await told(feed)
            there.answer = ok
            async with _hooked(a, feed):
                await until(lambda: _ends(there) == [3])
                again = [one for one in there.requests if one.body["data"]["to"] == 2][-1]
                assert int(again.headers["x-tallystick-attempt"]) > waiting["attempts"]
            before = len(there.requests)
            async with _hooked(a, feed):
                await _emit(a, b, "t3")
                await until(lambda: _ends(there) == [4])
            late = [one["data"]["to"] for one in there.named("delta.cosigned")][before:]
            assert late in ([4], [3, 4])  # the last one's arrival may not have been written down


async def test_deltas_one_by_one_for_who_names_them(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            _add(a, there, feed.last, "delta.verified", "record.committed")
            there.answer = _refuse_third
            async with _hooked(a, feed):
                await _emit(a, b, *(f"t{n}" for n in range(6)), quantity=2**53 + 1)
                await _emit(b, a, "not ours")
                await until(lambda: len(there.requests) > 4)
            there.answer = ok
            async with _hooked(a, feed):
                await until(lambda: there.named("record.committed") != [])
            arrived = dict.fromkeys(one["id"] for one in there.named("delta.verified"))
            assert len(arrived) == 6
            data = {one["id"]: one["data"] for one in there.named("delta.verified")}
            assert [data[id]["referenceId"] for id in arrived] == [f"t{n}" for n in range(6)]
            assert [data[id]["sequenceNumber"] for id in arrived] == [str(n) for n in range(1, 7)]
            assert all('"delta":9007199254740993,' in one.raw for one in there.requests[:6])
            (committed,) = there.named("record.committed")
            assert committed["data"]["itemCount"] == 6
            shown = [one["recordId"] for one in data.values()]
            assert committed["data"]["records"] == list(dict.fromkeys(shown))
            assert committed["data"]["receiptId"] in {one["receiptId"] for one in data.values()}


def _refuse_third(handler: Handler, request: Request) -> None:
    handler.reply(500 if request.body["data"].get("referenceId") == "t2" else 200)


async def test_what_could_not_be_recorded_again_is_told_in_both_vocabularies(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (a, _), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            _add(a, there, feed.last, "delta.unplaced", "delta.failed")
            log = a.channel.own
            deltas = (
                Delta("t1", "tokens", "s1", 25, builders.OCTOBER_US, a.now_us, None),
                Correction("t0", "tokens", None, "wrong", a.now_us),
            )

            def keep(txn: Txn) -> None:
                for n, record in enumerate(deltas):
                    row = UnplacedRow(encode_record(record), "its id is taken")
                    txn.put("unplaced", index_key(log.number, n), encode_row(row))

            async with _hooked(a, feed):
                await a.books.store.commit(keep)
                feed.poke(a.channel.id)
                await until(lambda: len(there.requests) == 4)
            kinds = [one.body["event"] for one in there.requests]
            assert kinds == ["delta.failed", "delta.unplaced"] * 2
            first, _, second, _ = (one.body["data"] for one in there.requests)
            assert (first["delta"], first["referenceId"]) == (25, "t1")
            assert first["error"] == second["error"] == "its id is taken"
            assert first["recordId"].endswith(".p:tokens:t1")
            assert first["recordId"] != second["recordId"]


async def test_an_endpoint_of_one_channel_gets_what_concerns_it(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there, receiver() as other:
            await told(feed)
            name, key = homes.NAMES[1], a.channel.id.hex()
            _add(a, there, feed.last, channel=key)
            _add(a, other, feed.last, channel=bytes(31).hex() + "01")
            async with _hooked(a, feed):
                for kind in ("peer.silent", "peer.back"):
                    since = {"since": "then"}
                    feed.tell_of_peer(kind, name, since, silent=kind == "peer.silent")
                feed.tell_of_peer("peer.back", "somebody else", since, silent=False)
                await _emit(a, b, "t1")
                await until(lambda: len(there.requests) == 3)
                await told(feed)
            kinds = [one.body["event"] for one in there.requests]
            assert sorted(kinds) == ["delta.cosigned", "peer.back", "peer.silent"]
            assert _cursors(there) == sorted(_cursors(there))
            assert other.requests == []


async def test_an_endpoint_that_is_removed_is_sent_nothing_more(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            made = _add(a, there, feed.last, "delta.*")
            there.answer = failing(410)
            async with _hooked(a, feed) as hooks:
                await _emit(a, b, "t1")
                await until(lambda: len(_deliveries(a, "dead")) == 1)
                await hooks.replay(None)
                remove_endpoint(a.home.path, made.id)
                hooks.reload()
                await until(lambda: _deliveries(a, "replaying") == [])
                await until(lambda: not hooks._lines)
                await _emit(a, b, "t2")
                await told(feed)
                with pytest.raises(EndpointError, match="not there any more"):
                    await hooks.replay(None)
                with a.books.store.read() as txn:
                    assert txn.entries("lanes") == 0
            assert all(one["data"]["to"] == 2 for one in there.named("delta.cosigned"))


async def test_events_that_were_dropped_meanwhile_are_passed_over(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            _add(a, there, feed.last, "delta.*")
            await _emit(a, b, "t1")
            await told(feed)

            def drop(txn: Txn) -> None:
                feed._state = prune(txn, feed._state, 2**62, 1000)

            await a.books.store.commit(drop)
            async with _hooked(a, feed):
                await _emit(a, b, "t2")
                await until(lambda: _ends(there) == [3])
            assert len(there.requests) == 1


async def test_only_so_many_deliveries_are_kept(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        with receiver() as there:
            await told(feed)
            _add(a, there, feed.last, "delta.verified")
            config = WebhooksConfig(keep_deliveries=10)
            async with _hooked(a, feed, config):
                await _emit(a, b, *(f"t{n}" for n in range(30)))
                await until(lambda: len(there.requests) == 30)
                await a.books.store.commit(lambda txn: None)
            async with _hooked(a, feed, config):
                await _emit(a, b, "last")
                await until(lambda: _newest(a) == there.requests[-1].body["id"] and _last(there))
            assert len(_deliveries(a, "delivered")) == 10


def _newest(side: Side) -> str:
    found: str = _deliveries(side, "delivered")[0]["id"]
    return found


def _last(there: Receiver) -> bool:
    return bool(there.requests[-1].body["data"]["referenceId"] == "last")


def test_repetitions_come_ever_later_and_as_asked() -> None:
    dice, config = Random(1), WebhooksConfig(first_retry_seconds=2)
    for attempts in (1, 2, 5, 9, 20, 10_000):
        longest = min(2 * 2.0 ** (min(attempts, 40) - 1), RETRY_MAX_SECONDS)
        drawn = [backoff(config, attempts, 0, dice) for _ in range(200)]
        assert longest / 2 <= min(drawn) < max(drawn) <= longest
        assert backoff(config, attempts, 3600, dice) == 3600
