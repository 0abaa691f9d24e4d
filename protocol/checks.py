"""Numbered checks: what a verifier prints, whatever it is that it verifies.

A verifier is a table of short functions in order. Each returns a sentence on what it found or
raises; one runs when those that it needs have held, so one fault is reported once, by the check
that caught it. What the sentences quote of a file moves no cursor: control characters are shown
escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tallystick.protocol.errors import TallyError

K = TypeVar("K")

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Check:
    """One check's result. `detail` says what was found, or what is wrong; if it is not `judged`,
    nothing is wrong and who reads it must say whom he trusts.
    """

    number: int
    name: str
    ok: bool
    detail: str
    judged: bool = True


class Unjudged(str):
    """What a check found that it could not judge."""

    __slots__ = ()


# A check's name, the numbers of those that it needs, and the function itself.
Step = tuple[str, tuple[int, ...], Callable[[K], str]]


def run_checks(
    known: K, steps: Sequence[Step[K]], failed: dict[int, int] | None = None, first: int = 1
) -> Iterator[Check]:
    """The checks' results, each as soon as it is done, numbered from `first` on.

    `known` is what the checks establish on their way; a `TallyError` is a check that fails.
    `failed` is filled with the checks that do not hold, and the check that each is due to.
    """
    failed = {} if failed is None else failed
    for number, (name, needs, run) in enumerate(steps, first):
        cause = next((failed[need] for need in needs if need in failed), None)
        if cause is not None:
            failed[number] = cause
            yield Check(number, name, False, f"not reached: check {cause} failed")
            continue
        try:
            detail = run(known)
        except TallyError as error:
            failed[number] = number
            yield Check(number, name, False, _shown(str(error)))
        else:
            judged = not isinstance(detail, Unjudged)
            yield Check(number, name, True, _shown(detail), judged)


def _shown(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
