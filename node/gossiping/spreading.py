"""Evidence that travels: whoever convicts a party of a channel tells the other one of it, too.

A file of evidence names both parties and their terms, so it goes to the parties of its channel and
to nobody else; strangers see no more than a conflict of two blinded items. Who receives a file
verifies it by itself, whoever sent it, and halts the channel before it believes anything else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import trio

from tallystick.node import accusing
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.link import Link
from tallystick.node.quotas import Bucket
from tallystick.protocol.errors import FormatError, PeerBreach
from tallystick.protocol.evidence import evidence_digest, parse_evidence, verify_evidence
from tallystick.protocol.messages import Accusation

FILES_MAX = 4  # of a channel, that are told
FILES_A_MINUTE = 12  # from one peer, that are verified
SEEN_MAX = 1000

_log = logging.getLogger("tallystick.gossip")


class Spreading:
    """Tells and hears evidence for one node; `convicted` stops a channel."""

    def __init__(
        self,
        books: Books,
        links: Mapping[str, Link],
        convicted: Callable[[Channel, str], Awaitable[None]],
    ) -> None:
        self._books = books
        self._links = links
        self._convicted = convicted
        self._buckets: dict[str, Bucket] = {}
        self._seen: dict[bytes, None] = {}  # digests of files that are kept

    def tell(self, link: Link) -> None:
        """Tell a peer of all evidence that is kept in channels with it."""
        for key, row in self._books.founding.of_peer(link.peer):
            if row.state == "halted" and key in self._books.channels:
                self._send(link, self._books.channels[key][0])

    def tell_of(self, channel: Channel) -> None:
        """Tell the peer of the evidence that is kept in a channel, if it is connected."""
        link = self._links.get(channel.peer_keys.name)
        if link is not None and link.live:
            self._send(link, channel)

    def _send(self, link: Link, channel: Channel) -> None:
        for found in accusing.kept(channel)[:FILES_MAX]:
            link.send(Accusation(found.data))

    async def hear(self, link: Link, message: Accusation) -> None:
        """Verify what a peer accuses somebody with; keep it, and stop that channel. `PeerBreach`
        if it convicts nobody.
        """
        data = message.evidence
        digest, now = evidence_digest(data), trio.current_time()
        if digest in self._seen:
            return
        bucket = self._buckets.setdefault(
            link.peer, Bucket(FILES_A_MINUTE / 60, FILES_A_MINUTE, now)
        )
        if not bucket.try_take(1, now):
            _log.warning("evidence is not looked at, there is too much", extra={"peer": link.peer})
            return
        try:
            accused = parse_evidence(data).accused
        except FormatError as error:
            raise PeerBreach("bad-evidence", f"the peer sent no evidence: {error}") from None
        opened = self._books.channels.get(accused.channel_id)
        if opened is None or link.peer != opened[0].peer_keys.name:
            _log.info("evidence of another channel is not kept", extra={"peer": link.peer})
            return
        channel, _ = opened
        if any(found.digest == digest for found in accusing.kept(channel)):
            self._note(digest)
            return
        checks = verify_evidence(data)
        for check in checks:
            if not check.ok:
                raise PeerBreach(
                    "bad-evidence",
                    f"what the peer sent convicts nobody: {check.name}: {check.detail}",
                )
        found = await accusing.keep(channel, data)
        self._note(digest)
        await self._convicted(channel, f"evidence {found.name} {checks[-1].detail}")

    def _note(self, digest: bytes) -> None:
        """Know a file again."""
        self._seen[digest] = None
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
