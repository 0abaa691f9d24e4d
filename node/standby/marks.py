"""What a store's table `meta` says about standbys: plain names, for many parts need them.

`line` names the commits that follow each other in one store (drawn anew for a copy); `mirrored`, in
a standby's store, says up to which of them it has everything; `generation` is how often the party's
node was taken over by another.
"""

from __future__ import annotations

from tallystick.node.store.changed import LINE, TABLE

MIRRORED, GENERATION = b"mirrored", b"generation"
# Rows of `meta` that are of one home and mean nothing in another.
OF_THE_HOME = frozenset(
    {b"place", b"port", b"http-port", b"witness-port", b"restored", LINE, MIRRORED}
)


def is_mirrored(table: str, key: bytes) -> bool:
    """Whether a row is one that a standby has too."""
    return table != TABLE and (table != "meta" or key not in OF_THE_HOME)


def pack_mirrored(line: bytes, number: int) -> bytes:
    """The value of `mirrored`."""
    return line + number.to_bytes(8, "big")


def unpack_mirrored(value: bytes | None) -> tuple[bytes, int]:
    """Line and number; empty and 0 if there is none."""
    return (value[:16], int.from_bytes(value[16:], "big")) if value else (b"", 0)
