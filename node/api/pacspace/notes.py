"""What a client says of a delta that its record has no place for: reason, metadata, and the like.

It is sealed beside the record: in its transaction, with a salted digest of it in the record that
both parties sign. So it is there as long as the record is, and can be proven to whoever is shown.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tallystick.node.logs import ChannelLog
from tallystick.node.sealing import content_of, seal
from tallystick.protocol.records import Delta

NULL = Raw(b"null")


class Note(Struct, omit_defaults=True):
    """What was said with an emit; `sign` is that of the customer then (see `Customer`)."""

    customerId: str  # noqa: N815 - the client's own word, which an auditor will look for
    reason: str
    referenceId: str | None = None  # noqa: N815
    metadata: Raw = NULL
    adjusts: Raw = NULL
    sign: int = 1

    def says_other(self, reason: str, adjusts: Raw) -> bool:
        """Whether it is the note of something else."""
        return self.reason != reason or bytes(self.adjusts) != bytes(adjusts)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note).decode


def sealed_note(note: Note) -> bytes:
    """A note under a fresh salt."""
    return seal(_encode(note))


def note_of(log: ChannelLog, delta: Delta) -> Note | None:
    """What was said of a delta; None if it came another way."""
    content = content_of(log, delta)
    if content is None:
        return None
    try:
        return _decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # another program sealed something else beside it
