"""Who is whose customer: the ids that clients use, and which usage of which channel each is.

An entry of the configuration says so; a channel without one is a customer by its peer's name. The
usage is that of one meter, in the log of this party if it records the meter, else in its peer's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

import trio

from tallystick.node.api.pacspace.wire import Refusal, bad, missing
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.config import Pacspace, PacspaceCustomer
from tallystick.node.logs import ChannelLog
from tallystick.protocol.errors import InputError
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import TEXT_BYTES_MAX, Meter, Role

ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_HEX = re.compile(r"[0-9a-fA-F]+")
_DEFAULT = PacspaceCustomer("x", "x")
_control = re.compile("[\x00-\x1f\x7f-\x9f]").search


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer: the deltas of a meter, and of one subject if it is named, in the log of `role`.

    `sign` is -1 where clients emit usage as negative numbers.
    """

    id: str
    key: bytes
    peer: str
    meter: Meter
    subject: str | None
    sign: int
    role: Role
    ours: bool

    def log(self, channel: Channel) -> ChannelLog:
        """The log that counts, of this customer's channel."""
        return channel.provider_log if self.role == "provider" else channel.consumer_log

    def has(self, meter: str, subject: str) -> bool:
        """Whether usage is this customer's."""
        return meter == self.meter.name and self.subject in (None, subject)

    def records_as(self) -> str:
        """The subject of what is emitted for this customer."""
        return self.subject or self.id

    def delta_id(self, reference: str) -> str:
        """The id of the delta that a client knows by a reference.

        Customers that share a meter have references of their own, so their subject is in it. What
        cannot be an id is hashed, and what could be another customer's: a and b:c, or a:b and c.
        """
        name = reference if self.subject is None else f"{self.subject}:{reference}"
        plain = ":" not in (self.subject or "") and not _control(name)
        if plain and len(name.encode()) <= TEXT_BYTES_MAX:
            return name
        return "sha256-" + sha256(f"{self.subject or ''}\0{reference}".encode()).hexdigest()


class Customers:
    """The customers of a node."""

    def __init__(self, books: Books, config: Pacspace) -> None:
        self._books = books
        self._entries = {entry.id: entry for entry in config.customers}
        self._named = {entry.channel for entry in config.customers}
        self._begun = tuple(name.lower() for name in self._named if _HEX.fullmatch(name))
        self._closing: dict[bytes, trio.Lock] = {}
        check_customers(config)

    def find(self, id_: str) -> Customer:
        """The customer of an id."""
        if not ID.fullmatch(id_):
            raise bad("customerId must have 1 to 128 letters, digits, or _ - . :")
        entry = self._entries.get(id_)
        if entry is not None:
            return self._customer(id_, self._select(id_, entry.channel), entry)
        if id_ not in self._peers():
            raise missing(
                f"there is no customer {id_!r}: none is mapped to that id in config.toml"
                " ([[pacspace.customers]]), and no channel's peer is called so"
            )
        return self._customer(id_, self._select(id_, id_), _DEFAULT)

    def ids(self) -> list[str]:
        """The ids of all customers, in order."""
        return sorted({*self._entries, *self._peers()})

    def opened(self, customer: Customer) -> tuple[Channel, Closer]:
        """A customer's channel as it is now."""
        return self._books.channels[customer.key]

    def closing(self, key: bytes) -> trio.Lock:
        """Held while periods of a channel are closed: whoever asks again waits for the same."""
        return self._closing.setdefault(key, trio.Lock())

    def halted(self, key: bytes) -> str:
        """Why a channel is halted; empty if it is not."""
        row = self._books.founding.rows[key]
        return (row.reason or "halted") if row.state == "halted" else ""

    def of_usage(self, key: bytes, meter: str, subject: str) -> Customer | None:
        """Whose some usage is."""
        peer = self._books.founding.rows[key].peer
        begins = key.hex().startswith
        entries = self._entries.values()
        near = [e.id for e in entries if e.channel == peer or begins(e.channel.lower())]
        for id_ in near or [peer]:
            try:
                customer = self.find(id_)
            except Refusal:
                continue
            if customer.key == key and customer.has(meter, subject):
                return customer
        return None

    def _peers(self) -> set[str]:
        """The peers that are customers by their name: those with a channel that no entry names."""
        return {
            row.peer
            for key, row in self._books.founding.rows.items()
            if row.state in ("open", "halted")
            and row.peer not in self._named
            and not key.hex().startswith(self._begun)
        }

    def _select(self, id_: str, selector: str) -> bytes:
        try:
            key = self._books.select(selector)
        except InputError as error:
            raise missing(f"the customer {id_!r} has no channel: {error.message}") from None
        if key not in self._books.channels:
            raise missing(f"the channel of the customer {id_!r} is not open")
        return key

    def _customer(self, id_: str, key: bytes, entry: PacspaceCustomer) -> Customer:
        channel, _ = self._books.channels[key]
        meter = _meter(channel, id_, entry.meter)
        ours = meter.source in (channel.role, "both")
        role: Role = channel.role if ours else channel.peer.role
        sign = -1 if entry.usage == "negative" else 1
        peer = channel.peer_keys.name
        return Customer(id_, key, peer, meter, entry.subject or None, sign, role, ours)


def _meter(channel: Channel, id_: str, name: str) -> Meter:
    """The meter of a customer: the one that is named, or the only one that can be."""
    sums = [meter for meter in channel.terms.meters if meter.aggregate == "sum"]
    if name:
        found = [meter for meter in sums if meter.name == name]
        if not found:
            listed = ", ".join(meter.name for meter in sums) or "none"
            raise bad(
                f"the customer {id_!r} is mapped to {name!r}, which is no meter of its channel"
                f" that sums up (config.toml, [[pacspace.customers]]). Meters: {listed}"
            )
        return found[0]
    ours = [meter for meter in sums if meter.source in (channel.role, "both")] or sums
    if len(ours) != 1:
        listed = ", ".join(meter.name for meter in ours) or "none"
        raise bad(
            f"the channel of the customer {id_!r} has not one meter that sums up, but: {listed}."
            " Name one in config.toml: [[pacspace.customers]], meter"
        )
    return ours[0]


def check_customers(config: Pacspace) -> None:
    """`InputError` if an id is there twice, or two customers are the same usage."""
    ids: set[str] = set()
    for entry in config.customers:
        if entry.id in ids:
            raise InputError(
                f"config.toml: pacspace.customers has {entry.id!r} twice", "Remove one of them"
            )
        ids.add(entry.id)
    for place, one in enumerate(config.customers):
        for other in config.customers[:place]:
            if (
                one.channel == other.channel
                and _overlap(one.meter, other.meter)
                and _overlap(one.subject, other.subject)
            ):
                raise InputError(
                    f"config.toml: pacspace.customers {other.id!r} and {one.id!r} are the same"
                    " usage, or one is part of the other",
                    "Give each a meter or a subject of its own",
                )


def _overlap(one: str, other: str) -> bool:
    return not one or not other or one == other


def calendar_of(channel: Channel) -> Calendar:
    """The calendar of a channel's terms."""
    return channel.own.folder.calendar
