"""Server-sent events: bytes become events, and the cursor from which a stream goes on."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tallystick.client.answers import Event
from tallystick.client.errors import Gap, Unreachable

GAP = "feed.gap"  # the kind by which the node says that it does not keep what is asked for


class EventLines:
    """Takes a stream piece by piece. `cursor` is where to go on if it breaks off."""

    def __init__(self, cursor: int) -> None:
        self.cursor = cursor
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that end in this piece."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            event = self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if event is not None:
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

    def begin_anew(self) -> None:
        """Another connection: what was half read comes again."""
        self._rest = b""
        self._fields = {}
