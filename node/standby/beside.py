"""Files beside the store that a standby has too: the keys of the HTTP interface, and where webhooks
go. They are the primary's alone to change, for whoever takes over must know what it knew.
"""

from __future__ import annotations

from contextlib import suppress
from typing import get_args

from tallystick.node.errors import StoreError
from tallystick.node.files import PRIVATE, one_at_a_time, sync, write_whole
from tallystick.node.home import Home
from tallystick.protocol.mirror import Beside, BesideName


class Watched:
    """The files of a primary's home, and what its standby was told that they say."""

    def __init__(self, home: Home) -> None:
        self._folder = home.path
        self._said: dict[str, bytes | None] = {}

    def news(self) -> list[Beside]:
        """What they say where that is not what was said last; all of it the first time."""
        found: list[Beside] = []
        for name in get_args(BesideName):
            try:
                data = (self._folder / name).read_bytes()
            except FileNotFoundError:
                data = None
            except OSError:
                continue  # whoever needs it says so
            if name not in self._said or self._said[name] != data:
                self._said[name] = data
                found.append(Beside(name, data))
        return found


def keep(home: Home, message: Beside) -> None:
    """Have a file of a standby's home say what the primary's says, durably."""
    file = home.path / message.name
    with one_at_a_time(home.path):
        if message.data is not None:
            if not file.exists() or file.read_bytes() != message.data:
                write_whole(file, message.data, PRIVATE)
        else:
            try:
                with suppress(FileNotFoundError):
                    file.unlink()
                    sync(home.path)
            except OSError as error:
                raise StoreError(f"{file} cannot be removed: {error.strerror}") from None
