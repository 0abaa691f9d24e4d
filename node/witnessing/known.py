"""Whose logs this node witnesses, and by which keys they sign.

The configuration names logs. Beside those every log of a paired peer may count, in whatever channel
it is: its origin begins with the peer's name, and its key is the one that pairing exchanged, or
those that followed it in a channel with us.
"""

from __future__ import annotations

import re

from tallystick.node.books import Books
from tallystick.node.config import WitnessSettings
from tallystick.protocol.errors import FormatError, InputError
from tallystick.protocol.keys import ED25519_NOTE, Vkey
from tallystick.protocol.signers import parse_signer

_ORIGIN = re.compile(r"(?P<party>[a-z0-9.-]+)/[0-9a-f]{64}")


class KnownLogs:
    """The logs that a node witnesses."""

    def __init__(self, books: Books, settings: WitnessSettings) -> None:
        self._books = books
        self._paired = settings.paired
        self._configured = configured_logs(settings)

    def party_of(self, origin: str) -> str | None:
        """The paired peer whose log this is; None for a log of the configuration, or nobody's."""
        match = _ORIGIN.fullmatch(origin)
        if origin in self._configured or match is None or not self._paired:
            return None
        return match["party"] if match["party"] in self._books.peers else None

    def vkeys_of(self, origin: str) -> list[Vkey]:
        """The keys that count for a log now; none if it is not known here."""
        if origin in self._configured:
            return self._configured[origin]
        party = self.party_of(origin)
        if party is None:
            return []
        return [Vkey(origin, ED25519_NOTE, key) for key in self._keys_of(party)]

    def _keys_of(self, party: str) -> list[bytes]:
        keys: dict[bytes, None] = {}
        if party in self._books.turning:  # somebody changed a key in a channel with that peer
            now_us = self._books.clock_us()
            for key, _ in self._books.founding.of_peer(party):
                if key in self._books.channels:
                    log = self._books.channels[key][0].peer
                    keys |= dict.fromkeys(log.keyring.counting(log.role, "log", now_us))
        return list(keys) or [self._books.peers[party].log_key]


def configured_logs(settings: WitnessSettings) -> dict[str, list[Vkey]]:
    """The keys of the logs that the configuration names, by origin; `InputError` if one is none."""
    found: dict[str, list[Vkey]] = {}
    for number, log in enumerate(settings.logs, 1):
        try:
            vkey = parse_signer(log.vkey)
        except FormatError as error:
            said = f"number {number} of witness.logs: {error.message}"
            raise InputError(said, error.advice) from None
        found.setdefault(log.origin or vkey.name, []).append(vkey)
    return found
