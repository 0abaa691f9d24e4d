"""Which message may come when: the session as a table.

A connection is GREETING until the peer said hello, GREETED until it said which process speaks,
then LIVE. In it each channel goes its own way. From our side, *our* log is CONFIRMING until the
peer said what it holds of it: before that we sign and send nothing new (we may have been restored
from an old backup). If the peer holds more than we do, the log is RECOVERING until it is back. Then
it is OPEN. A breach makes the channel HALTED, and only that channel.

`CONNECTION` and `CHANNEL` hold every legal step: (state, message received) → next state. What is
absent is a breach by the peer; sending uses the same tables with `SENDABLE`.
"""

from __future__ import annotations

from enum import Enum
from typing import get_args

from tallystick.protocol.messages import (
    Accusation,
    Append,
    Bye,
    Channels,
    Cosign,
    Fenced,
    Full,
    Halt,
    Hearsay,
    Hello,
    Holding,
    InClosing,
    InFounding,
    InReconciliation,
    Ping,
    Presence,
    Promoted,
    Return,
)


class Connection(Enum):
    """Where a connection stands."""

    GREETING = "greeting"  # our hello is sent, the peer's has not come
    GREETED = "greeted"  # its hello has come, its presence has not
    LIVE = "live"  # channels may be spoken of
    CLOSED = "closed"  # a bye was sent or received


class Channel(Enum):
    """Where our log in a channel stands, in one session."""

    CONFIRMING = "confirming"  # the peer has not said what it holds of our log
    RECOVERING = "recovering"  # the peer holds more of our log than we do, and returns it
    OPEN = "open"  # append and co-sign
    HALTED = "halted"  # nothing more is signed in this channel


_CONNECTION_WIDE = (Channels, Hearsay, Accusation, *get_args(InFounding))
_ABOUT_PEERS_LOG = (Append, *get_args(InClosing))
# About rows that are in no log: `reconcile.py` says which may come when.
_ABOUT_PRIVATE_ROWS: tuple[type, ...] = get_args(InReconciliation)
_ABOUT_OTHERS = (*_ABOUT_PEERS_LOG, *_ABOUT_PRIVATE_ROWS)

CONNECTION: dict[tuple[Connection, type], Connection] = {
    (Connection.GREETING, Hello): Connection.GREETED,
    (Connection.GREETING, Bye): Connection.CLOSED,
    (Connection.GREETED, Presence): Connection.LIVE,
    (Connection.GREETED, Promoted): Connection.GREETED,
    (Connection.GREETED, Bye): Connection.CLOSED,
    (Connection.GREETED, Fenced): Connection.CLOSED,
    (Connection.LIVE, Presence): Connection.LIVE,
    (Connection.LIVE, Ping): Connection.LIVE,
    (Connection.LIVE, Bye): Connection.CLOSED,
    (Connection.LIVE, Fenced): Connection.CLOSED,
    **{(Connection.LIVE, kind): Connection.LIVE for kind in _CONNECTION_WIDE},
}

CHANNEL: dict[tuple[Channel, type], Channel] = {
    # `Holding` opens; the session itself turns it into RECOVERING when it shows more than we have.
    (Channel.CONFIRMING, Holding): Channel.OPEN,
    (Channel.CONFIRMING, Full): Channel.CONFIRMING,
    (Channel.CONFIRMING, Halt): Channel.HALTED,
    **{(Channel.CONFIRMING, kind): Channel.CONFIRMING for kind in _ABOUT_OTHERS},
    (Channel.RECOVERING, Return): Channel.RECOVERING,
    (Channel.RECOVERING, Full): Channel.RECOVERING,
    (Channel.RECOVERING, Halt): Channel.HALTED,
    **{(Channel.RECOVERING, kind): Channel.RECOVERING for kind in _ABOUT_OTHERS},
    (Channel.OPEN, Cosign): Channel.OPEN,
    (Channel.OPEN, Full): Channel.OPEN,
    (Channel.OPEN, Halt): Channel.HALTED,
    **{(Channel.OPEN, kind): Channel.OPEN for kind in _ABOUT_OTHERS},
    # What was under way when the channel halted may still arrive; it is ignored.
    **{
        (Channel.HALTED, kind): Channel.HALTED
        for kind in (Holding, Cosign, Return, Full, Halt, *_ABOUT_OTHERS)
    },
}

# What we may send in which state of our own log.
SENDABLE: dict[Channel, frozenset[type]] = {
    Channel.CONFIRMING: frozenset({Holding, Cosign, Return, Full, Halt}),
    Channel.RECOVERING: frozenset({Holding, Cosign, Return, Full, Halt}),
    Channel.OPEN: frozenset({Holding, Cosign, Return, Full, Halt, *_ABOUT_OTHERS}),
    Channel.HALTED: frozenset({Halt}),
}
