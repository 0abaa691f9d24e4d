"""Server-sent events: bytes become events, and where and when a stream goes on that broke off."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tallystick.client.answers import Event
from tallystick.client.asking import RETRIABLE, Retry
from tallystick.client.errors import Answered, Gap, Unreachable

GAP = "feed.gap"  # the kind by which the node says that it does not keep what is asked for


class EventLines:
    """Takes a stream piece by piece. `cursor` is where to go on if it breaks off."""

    def __init__(self, cursor: int, retry: Retry) -> None:
        self.cursor = cursor
        self._retry = retry
        self._attempts = 0  # to connect, since the last event
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that end in this piece."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            event = self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if event is not None:
                self._attempts = 0
                yield event

    def _line(self, line: str) -> Event | None:
        if line:
            name, _, value = line.partition(":")
            if name:  # a line that begins with a colon says only that the stream lives
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if fields.get("id", "").isdigit():
            self.cursor = int(fields["id"])
        if "data" not in fields:
            return None
        if fields.get("event") == GAP:
            raise Gap(f"the node does not keep what follows event {self.cursor}")
        try:
            return msgspec.json.decode(fields["data"], type=Event)
        except msgspec.MsgspecError as error:
            raise Unreachable(f"the stream is not a node's: {error}") from None

    def broken_off(self, error: Exception | None) -> float:
        """Seconds until the next attempt to connect, where what was half read comes again; the
        error, or `Gap`, if another attempt does not help.
        """
        if isinstance(error, Answered) and error.problem.status not in RETRIABLE:
            raise Gap(str(error)) if error.problem.type.endswith(":CursorError") else error
        self._rest = b""
        self._fields = {}
        self._attempts += 1
        return self._retry.pause(self._attempts)
