"""Idempotency keys: the first answer again, another request refused, and nothing counted twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio
from pacspace_sdk import PacSpace, PacSpaceError, ValidationError
from pacspace_world import World
from starlette.responses import Response

from tallystick.node.api.keys import OWNER
from tallystick.node.api.pacspace import idempotency
from tallystick.node.api.pacspace.idempotency import KEEP_US, Answers, key_hash
from tallystick.node.api.pacspace.wire import Refusal
from tallystick.node.store.disk import Store

_numbers = itertools.count()


def _key() -> str:
    return f"idem-{next(_numbers)}"


def test_the_same_key_gives_the_first_answer(pac: PacSpace, customer: str) -> None:
    options = {"idempotencyKey": _key()}
    first = pac.balance.emit(customer, 5, "usage", options)
    again = pac.balance.emit(customer, 5, "usage", options)
    assert again == first  # to the last field: it is the answer that was kept
    assert pac.balance.derive(customer)["deltasCount"] == 1


def test_the_same_key_with_another_body_is_refused(pac: PacSpace, customer: str) -> None:
    options = {"idempotencyKey": _key()}
    pac.balance.emit(customer, 5, "usage", options)
    for change in (
        lambda: pac.balance.emit(customer, 6, "usage", options),
        lambda: pac.balance.checkpoint(customer, options),
    ):
        with pytest.raises(PacSpaceError) as raised:
            change()
        assert (raised.value.status_code, raised.value.code) == (409, "IDEMPOTENCY_CONFLICT")
    assert pac.balance.derive(customer)["computedBalance"] == 5


def test_eight_at_once_with_one_key_wait_for_the_first(world: World, customer: str) -> None:
    options = {"idempotencyKey": _key()}

    def send(_: int) -> dict[str, Any]:
        made: dict[str, Any] = world.client().balance.emit(customer, 5, "usage", options)
        return made

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert world.client().balance.derive(customer)["deltasCount"] == 1


def test_what_was_refused_may_be_put_right_under_the_same_key(pac: PacSpace, customer: str) -> None:
    options = {"idempotencyKey": _key()}
    with pytest.raises(ValidationError):
        pac.balance.emit(customer, 0, "usage", options)
    assert pac.balance.emit(customer, 5, "usage", options)["delta"] == 5


def test_callers_have_keys_of_their_own(world: World, customer: str) -> None:
    options = {"idempotencyKey": _key()}
    one = world.client("admin").balance.emit(customer, 5, "usage", options)
    other = world.client("emit").balance.emit(customer, 6, "usage", options)
    assert one["recordId"] != other["recordId"]


def test_batches_and_checkpoints_have_it_too(world: World, customer: str) -> None:
    body = {"deltas": [{"customerId": customer, "delta": 2, "reason": "usage"}] * 2}
    with world.http() as http:
        headers = {"Idempotency-Key": _key()}
        answers = [
            http.post("/api/v1/balance/delta/batch", json=body, headers=headers) for _ in range(2)
        ]
    assert answers[0].json() == answers[1].json()
    ids = {result["recordId"] for result in answers[0].json()["data"]["results"]}
    assert len(ids) == 2
    pac = world.client()
    assert pac.balance.derive(customer)["deltasCount"] == 2
    options = {"idempotencyKey": _key()}
    first = pac.balance.checkpoint(customer, options)
    pac.balance.emit_and_wait(customer, 1, "usage", {"timeout": 10_000})
    assert pac.balance.checkpoint(customer, options) == first


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_keys_have_a_length(world: World, customer: str, key: str) -> None:
    body = {"customerId": customer, "delta": 2, "reason": "usage"}
    with world.http() as http:
        headers = {"Idempotency-Key": key}
        answer = http.post("/api/v1/balance/delta", json=body, headers=headers)
    assert answer.status_code == 400


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store")
    yield store
    store.close()


async def test_answers_survive_a_restart_and_are_forgotten_in_time(
    store: Store, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    nursery.start_soon(store.run)
    now = 10**15
    ran: list[bytes] = []

    async def ask(answers: Answers, name: str, request: bytes = b"r", status: int = 200) -> bytes:
        async def run() -> Response:
            ran.append(request)
            return Response(b"%d" % len(ran), status)

        return bytes((await answers.once(key_hash(OWNER, name), request, run)).body)

    answers = Answers(store, lambda: now)
    assert await ask(answers, "a") == b"1"
    assert await ask(Answers(store, lambda: now), "a") == b"1"
    with pytest.raises(Refusal, match="another request"):
        await ask(Answers(store, lambda: now), "a", b"other")
    assert await ask(answers, "b", status=400) == b"2"
    assert await ask(answers, "b", b"other") == b"3"
    now += KEEP_US + 1
    assert await ask(answers, "a") == b"4"
    monkeypatch.setattr(idempotency, "ANSWERS_MAX", 3)
    for name in "cdefg":
        await ask(answers, name)
    with store.read() as txn:
        assert txn.entries("answers") == 3
    assert await ask(answers, "g") == b"9"
    assert await ask(answers, "c") == b"10"


async def test_who_waits_for_a_failure_runs_itself(store: Store, nursery: trio.Nursery) -> None:
    nursery.start_soon(store.run)
    answers = Answers(store, lambda: 10**15)
    started, go = trio.Event(), trio.Event()
    ended: list[str] = []

    async def failing() -> Response:
        started.set()
        await go.wait()
        raise Refusal(400, "no")

    async def working() -> Response:
        return Response(b"yes")

    async def first() -> None:
        with pytest.raises(Refusal):
            await answers.once(b"k" * 32, b"r", failing)
        ended.append("first")

    async def second() -> None:
        await started.wait()
        go.set()
        assert bytes((await answers.once(b"k" * 32, b"r", working)).body) == b"yes"
        ended.append("second")

    async with trio.open_nursery() as both:
        both.start_soon(first)
        both.start_soon(second)
    assert sorted(ended) == ["first", "second"]
