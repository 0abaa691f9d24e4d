"""Who is told of what a store's commits change: so a standby has the same rows."""

from __future__ import annotations

from typing import Protocol

Row = tuple[str, bytes, bytes | None]  # table, key, value as stored; None: the key is removed


class Recorder(Protocol):
    """Who is told of a store's commits."""

    def took(self, number: int, rows: list[Row]) -> None:
        """These rows are durable as commit `number`; told in order, on the thread that wrote."""

    async def shared(self) -> bool:
        """Return when what was told may be acknowledged; False if it may not be any more."""
