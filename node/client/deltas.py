"""A delta on the side of the service that emits it.

Its id and its time are made when it is made, and never again: whoever sends it a second time sends
the same delta, and the node records it once.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
from msgspec import Struct

TEXT_BYTES_MAX = 128


def _new_id() -> str:
    return uuid.uuid4().hex


def _now() -> str:
    return datetime.now(UTC).isoformat()


class Delta(Struct, frozen=True, kw_only=True):
    """One change of usage. `quantity` is exact: a whole number, a `Decimal`, or a decimal as text;
    never a float. `occurred_at` is ISO 8601 with its offset.
    """

    meter: str
    quantity: str
    subject: str
    id: str = msgspec.field(default_factory=_new_id)
    occurred_at: str = msgspec.field(default_factory=_now)

    def __post_init__(self) -> None:
        for name in ("meter", "subject", "id"):
            _check_text(name, getattr(self, name))
        if not isinstance(self.quantity, str):
            raise TypeError("quantity is not text; Delta.of takes numbers")

    @classmethod
    def of(
        cls,
        meter: str,
        quantity: int | Decimal | str,
        subject: str,
        *,
        id: str | None = None,
        occurred_at: datetime | str | None = None,
    ) -> Delta:
        """A delta, checked as far as that can be done without the terms: `TypeError` and
        `ValueError` say what is wrong.
        """
        return cls(
            meter=meter,
            quantity=exact(quantity),
            subject=subject,
            id=_new_id() if id is None else id,
            occurred_at=_time(occurred_at),
        )


def exact(quantity: int | Decimal | str) -> str:
    """A quantity as text. Floats are refused: 0.1 is none of them."""
    if isinstance(quantity, bool) or not isinstance(quantity, int | Decimal | str):
        kind = type(quantity).__name__
        raise TypeError(f"quantity is a {kind}; it is an int, a Decimal, or a decimal as text")
    if isinstance(quantity, Decimal):
        if not quantity.is_finite():
            raise ValueError(f"quantity is {quantity}, which cannot be billed")
        return format(quantity, "f")
    return str(quantity)


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} is a {type(text).__name__}; it is text")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name} is not valid Unicode") from None
    if not 1 <= size <= TEXT_BYTES_MAX:
        raise ValueError(f"{name} has {size} bytes; 1 to {TEXT_BYTES_MAX} are allowed")


def _time(occurred_at: datetime | str | None) -> str:
    if occurred_at is None:
        return _now()
    if isinstance(occurred_at, datetime):
        if occurred_at.tzinfo is None:
            raise ValueError("occurred_at has no time zone: datetime.now(UTC) has one")
        return occurred_at.astimezone(UTC).isoformat()
    return occurred_at
