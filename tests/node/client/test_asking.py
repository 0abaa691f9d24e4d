"""What is asked again, when, and what an answer's problem becomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tallystick.client import Busy, Conflict, Delta, Failed, NotCosigned, Refused, Unreachable
from tallystick.client.asking import (
    Answer,
    Asking,
    Pause,
    Request,
    Retry,
    ask,
    emit,
    emit_group,
    emit_many,
)

RETRY = Retry(attempts=4, first=1.0, longest=5.0)
REQUEST = Request("GET", "/x")
DELTA = Delta.of("m", 1, "s")


def _carry_out(steps: Asking[Any], answers: Sequence[Answer | Unreachable]) -> Any:
    """What a question ends with, the requests that it made, and its pauses."""
    left = list(answers)
    requests: list[Request] = []
    pauses: list[float] = []
    step = next(steps)
    try:
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = steps.send(None)
                continue
            requests.append(step)
            step = steps.send(left.pop(0))
    except StopIteration as stop:
        assert not left
        return stop.value, requests, pauses


def _problem(status: int, kind: str = "about:blank", retry_after: str = "") -> Answer:
    body = {"type": kind, "status": status, "detail": f"no {status}", "advice": "do"}
    return Answer(status, retry_after, json.dumps(body).encode())


OK = Answer(200, "", b"{}")
DOWN = Unreachable("down")


def test_what_may_pass_is_asked_again_with_growing_pauses() -> None:
    trouble = [DOWN, _problem(503), _problem(429)]
    answer, requests, pauses = _carry_out(ask(REQUEST, RETRY), [*trouble, OK])
    assert (answer, requests) == (OK, [REQUEST] * 4)
    for pause, bound in zip(pauses, (1, 2, 4), strict=True):
        assert bound / 2 <= pause <= bound


def test_the_last_trouble_is_raised() -> None:
    with pytest.raises(Busy, match="no 503"):
        _carry_out(ask(REQUEST, RETRY), [DOWN, DOWN, DOWN, _problem(503)])
    with pytest.raises(Unreachable, match="down"):
        _carry_out(ask(REQUEST, RETRY), [_problem(503), DOWN, DOWN, DOWN])


def test_the_node_says_how_long_to_wait_within_bounds() -> None:
    answers = [_problem(503, retry_after="4"), _problem(503, retry_after="3600"), OK]
    _, _, pauses = _carry_out(ask(REQUEST, RETRY), answers)
    assert pauses == [4, 5]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (_problem(400), Refused),
        (_problem(409), Conflict),
        (_problem(504, "urn:tallystick:PeerUnreachable"), NotCosigned),
        (_problem(418), Failed),
    ],
)
def test_what_will_not_pass_is_raised_at_once(answer: Answer, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"no {answer.status}. do") as raised:
        _carry_out(ask(REQUEST, RETRY), [answer])
    assert raised.value.problem.status == answer.status  # type: ignore[attr-defined]


def test_a_proxy_without_problem_details_is_understood() -> None:
    with pytest.raises(Failed, match="HTTP status 502: <html>bad gateway"):
        _carry_out(ask(REQUEST, Retry(1)), [Answer(502, "", b"<html>bad gateway")])
    with pytest.raises(Failed, match="HTTP status 302"):
        _carry_out(ask(REQUEST, Retry(1)), [Answer(502, "", b"HTTP status 302")])
    with pytest.raises(Unreachable, match="not a node's"):
        _carry_out(emit("c", DELTA, 0, RETRY), [Answer(200, "", b"<html>welcome")])


def test_every_attempt_sends_the_same_bytes() -> None:
    done = Answer(202, "", b'{"state": "recorded", "index": 7, "duplicate": true}')
    receipt, requests, _ = _carry_out(emit("be/ta", DELTA, 0, RETRY), [DOWN, DOWN, done])
    assert len({request.body for request in requests}) == 1
    assert requests[0].path == "/v1/channels/be%2Fta/deltas"
    assert (receipt.index, receipt.duplicate, receipt.delta) == (7, True, DELTA)


def _many(count: int) -> Answer:
    results = [{"index": n, "problem": None, "duplicate": False} for n in range(count)]
    body = {"state": "recorded", "recorded": count, "duplicate": 0, "results": results}
    return Answer(202, "", json.dumps(body).encode())


def test_a_group_that_is_too_large_is_sent_in_halves() -> None:
    deltas = [Delta.of("m", n, "s") for n in range(5)]
    answers = [_problem(413), _many(2), _problem(413), _many(1), _many(2)]
    emitted, requests, _ = _carry_out(emit_group("c", deltas, RETRY), answers)
    assert [receipt.delta for receipt in emitted.receipts] == deltas
    sizes = [len(json.loads(request.body or b"")["deltas"]) for request in requests]
    assert sizes == [5, 2, 3, 1, 2]
    with pytest.raises(Refused, match="no 413"):
        _carry_out(emit_group("c", deltas[:1], RETRY), [_problem(413)])


def test_an_answer_of_another_length_is_none() -> None:
    with pytest.raises(Unreachable, match="another number"):
        _carry_out(emit_group("c", [DELTA], RETRY), [_many(2)])


def test_many_are_sent_in_groups_without_being_held() -> None:
    seen = 0

    def deltas() -> Any:
        nonlocal seen
        for n in range(2500):
            seen = n
            yield Delta.of("m", n, "s")

    steps = emit_many("c", deltas(), RETRY)
    next(steps)
    assert seen == 999
    emitted, _, _ = _carry_out(
        emit_many("c", deltas(), RETRY), [_many(1000), _many(1000), _many(500)]
    )
    assert (len(emitted.receipts), emitted.recorded) == (2500, 2500)
