"""What a store's table `meta` says about standbys: plain names, for many parts need them.

`line` names the commits that follow each other in one store (drawn anew for a copy); `mirrored`, in
a standby's store, says up to which of them it has everything; `generation` is how often the party's
node was taken over by another.
"""

from __future__ import annotations

from typing import Protocol

LINE, MIRRORED, GENERATION = b"line", b"mirrored", b"generation"
# Rows of `meta` that are of one home and mean nothing in another.
OF_THE_HOME = frozenset(
    {b"place", b"port", b"http-port", b"witness-port", b"restored", LINE, MIRRORED}
)

Row = tuple[str, bytes, bytes | None]  # table, key, value as stored; None: the key is removed


def is_mirrored(table: str, key: bytes) -> bool:
    """Whether a row is one that a standby has too."""
    return table != "changed" and (table != "meta" or key not in OF_THE_HOME)


class Recorder(Protocol):
    """Who is told of a store's commits."""

    def took(self, number: int, rows: list[Row]) -> None:
        """These rows are durable as commit `number`; told in order, on the thread that wrote."""

    async def shared(self) -> bool:
        """Return when what was told may be acknowledged; False if it may not be any more."""


def pack_mirrored(line: bytes, number: int) -> bytes:
    """The value of `mirrored`."""
    return line + number.to_bytes(8, "big")


def unpack_mirrored(value: bytes | None) -> tuple[bytes, int]:
    """Line and number; empty and 0 if there is none."""
    return (value[:16], int.from_bytes(value[16:], "big")) if value else (b"", 0)
