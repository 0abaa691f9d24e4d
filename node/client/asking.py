"""How to ask a node: each question as a generator that gives requests and pauses, and is given
answers. The two clients, one that blocks and one that does not, only carry them out.

A question is asked again when no answer came, or one that says "not now". That is always safe: a
delta that is sent twice is one delta, and everything else only reads.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from tallystick.client.answers import (
    Balance,
    Checkpoint,
    ClosedPeriod,
    Emitted,
    Receipt,
    Refusal,
    Status,
)
from tallystick.client.deltas import Delta
from tallystick.client.errors import Answered, Problem, Refused, Unreachable, error_of

DELTAS_A_REQUEST = 1000
WAIT_MAX = 3600
RETRIABLE = frozenset({408, 425, 429, 500, 502, 503, 504})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to ask again, and how long to wait before: at random up to a bound, which doubles
    from `first` to `longest` seconds.
    """

    attempts: int = 6
    first: float = 0.1
    longest: float = 10.0

    def pause(self, attempt: int) -> float:
        """Seconds to wait after an attempt, counted from 1."""
        bound = min(self.longest, self.first * 2.0 ** min(attempt - 1, 30))
        return bound * (0.5 + random.random() / 2)


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    wait_seconds: float = 0.0  # how much longer than usual the answer may take


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    retry_after: str
    body: bytes


# A question gives requests and pauses, takes what came of each (None of a pause), and ends with a
# value.
Asking = Generator[Request | Pause, Answer | Unreachable | None, T]


class _One(Struct):
    index: int
    duplicate: bool
    state: str


class _Reason(Struct):
    kind: str
    message: str


class _Result(Struct):
    index: int | None
    problem: _Reason | None
    duplicate: bool = False


class _Many(Struct):
    state: str
    recorded: int
    duplicate: int
    results: list[_Result]


class _Checkpoints(Struct):
    checkpoints: tuple[ClosedPeriod, ...]


class _Page(Struct):
    last: int


def ask(request: Request, retry: Retry) -> Asking[Answer]:
    """The answer to a request, asked again as `retry` says."""
    attempt = 0
    while True:
        attempt += 1
        least = 0.0
        given = yield request
        trouble: Answered | Unreachable
        if isinstance(given, Answer):
            if given.status < 400:
                return given
            trouble = problem_of(given)
            if not _may_pass(trouble):
                raise trouble
            if given.retry_after.isdigit():
                least = min(float(given.retry_after), retry.longest)
        else:
            assert given is not None
            trouble = given
        if attempt >= retry.attempts:
            raise trouble
        yield Pause(max(least, retry.pause(attempt)))


def problem_of(answer: Answer) -> Answered:
    """The error that an answer tells of."""
    try:
        problem = msgspec.json.decode(answer.body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        text = answer.body[:200].decode("utf-8", "replace")
        problem = Problem(detail=f"HTTP status {answer.status}: {text}".rstrip(": "))
    return error_of(msgspec.structs.replace(problem, status=answer.status))


def _may_pass(error: Answered) -> bool:
    """Whether a problem may be over when one asks again. That a peer has not co-signed is not."""
    late = error.problem.status == 504 and error.problem.type.startswith("urn:tallystick:")
    return error.problem.status in RETRIABLE and not late


def _decode(answer: Answer, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreachable(f"the answer is not a node's: {error}") from None


def _channel_path(channel: str, rest: str) -> str:
    return f"/v1/channels/{quote(channel, safe='')}/{rest}"


def _wait(seconds: float) -> dict[str, str]:
    return {"wait_seconds": str(min(max(1, round(seconds)), WAIT_MAX))} if seconds > 0 else {}


def emit(channel: str, delta: Delta, wait_seconds: float, retry: Retry) -> Asking[Receipt]:
    """Record one delta."""
    path, query = _channel_path(channel, "deltas"), _wait(wait_seconds)
    request = Request("POST", path, query, msgspec.json.encode(delta), wait_seconds)
    one = _decode((yield from ask(request, retry)), _One)
    return Receipt(delta, one.index, one.duplicate, one.state == "co-signed")


def emit_group(channel: str, deltas: Sequence[Delta], retry: Retry) -> Asking[Emitted]:
    """Record a group of deltas, in one request if its size is allowed."""
    body = msgspec.json.encode({"deltas": deltas})
    request = Request("POST", _channel_path(channel, "deltas"), {}, body)
    try:
        many = _decode((yield from ask(request, retry)), _Many)
    except Refused as error:
        if error.problem.status != 413 or len(deltas) == 1:
            raise
        half = len(deltas) // 2
        return join(
            (
                (yield from emit_group(channel, deltas[:half], retry)),
                (yield from emit_group(channel, deltas[half:], retry)),
            )
        )
    if len(many.results) != len(deltas):
        raise Unreachable("the answer is not a node's: another number of results")
    receipts, refusals = [], []
    for delta, result in zip(deltas, many.results, strict=True):
        if result.problem is not None:
            refusals.append(Refusal(delta, result.problem.kind, result.problem.message))
        else:
            index = -1 if result.index is None else result.index
            receipts.append(Receipt(delta, index, result.duplicate, many.state == "co-signed"))
    return Emitted(tuple(receipts), tuple(refusals), many.recorded, many.duplicate)


def emit_many(channel: str, deltas: Iterable[Delta], retry: Retry) -> Asking[Emitted]:
    """Record any number of deltas, some in each request."""
    found = []
    for group in _groups(deltas):
        found.append((yield from emit_group(channel, group, retry)))
    return join(found)


def _groups(deltas: Iterable[Delta]) -> Iterator[list[Delta]]:
    iterator = iter(deltas)
    while group := list(islice(iterator, DELTAS_A_REQUEST)):
        yield group


def join(parts: Iterable[Emitted]) -> Emitted:
    """What became of several groups, as of one."""
    receipts: list[Receipt] = []
    refusals: list[Refusal] = []
    recorded = duplicate = 0
    for part in parts:
        receipts += part.receipts
        refusals += part.refusals
        recorded += part.recorded
        duplicate += part.duplicate
    return Emitted(tuple(receipts), tuple(refusals), recorded, duplicate)


def wait_cosigned(
    channel: str, receipts: Sequence[Receipt], seconds: float, retry: Retry
) -> Asking[None]:
    """Wait until the peer has co-signed the log up to the last of these deltas.

    It is sent again, which records nothing: so a key that may emit may also wait.
    """
    if receipts:
        last = max(receipts, key=lambda receipt: receipt.index)
        yield from emit(channel, last.delta, seconds, retry)


def status(retry: Retry) -> Asking[Status]:
    """How the node stands."""
    return _decode((yield from ask(Request("GET", "/v1/status"), retry)), Status)


def balance(channel: str, chosen: Mapping[str, str | None], retry: Retry) -> Asking[Balance]:
    """The balance, or the chosen lines of it."""
    query = {name: value for name, value in chosen.items() if value is not None}
    request = Request("GET", _channel_path(channel, "balance"), query)
    return _decode((yield from ask(request, retry)), Balance)


def checkpoints(channel: str, retry: Retry) -> Asking[tuple[ClosedPeriod, ...]]:
    """The closed periods."""
    request = Request("GET", _channel_path(channel, "checkpoints"))
    return _decode((yield from ask(request, retry)), _Checkpoints).checkpoints


def checkpoint(channel: str, period: str, retry: Retry) -> Asking[Checkpoint]:
    """A closed period's checkpoint."""
    path = _channel_path(channel, f"checkpoints/{quote(period, safe='')}")
    return _decode((yield from ask(Request("GET", path), retry)), Checkpoint)


def newest(retry: Retry) -> Asking[int]:
    """The cursor of the newest event. A stream that begins with it misses nothing, even if it
    breaks off before anything came.
    """
    request = Request("GET", "/v1/events", {"limit": "1"})
    return _decode((yield from ask(request, retry)), _Page).last


def events_query(after: int, channel: str | None, kinds: Sequence[str]) -> dict[str, Any]:
    """The parameters of a stream of events."""
    query = {"after": str(after), "channel": channel}
    return {k: v for k, v in {**query, "kinds": ",".join(kinds) or None}.items() if v}
