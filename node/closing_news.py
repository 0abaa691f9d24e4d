"""What is told of proposals to close a period: they leave no trace in the store by themselves."""

from __future__ import annotations

from tallystick.node.channel import Channel
from tallystick.protocol.checkpoint import Checkpoint
from tallystick.protocol.messages import plain


class ClosingNews:
    """Tells of one channel's proposals; a proposal that only comes again is told once."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._last: tuple[str, str, bytes] = ("", "", b"")  # by whom, period, digest

    def proposed(self, checkpoint: Checkpoint, *, ours: bool) -> None:
        """One side proposes a checkpoint."""
        digest = checkpoint.digest()
        proposal = (self._name(ours=ours), checkpoint.period, digest)
        if proposal != self._last:
            self._last = proposal
            by, period, _ = proposal
            data = {"by": by, "period": period, "digest": digest.hex()}
            self._channel.news.happened("checkpoint.proposed", self._channel.id, data)

    def refused(self, digest: bytes, reason: str, *, ours: bool) -> None:
        """One side refuses to sign what the other one proposed last."""
        by, period, proposed = self._last
        if digest == proposed and by != self._name(ours=ours):
            data = {"by": self._name(ours=ours), "period": period, "digest": digest.hex()}
            data["reason"] = plain(reason)
            self._channel.news.happened("checkpoint.refused", self._channel.id, data)

    def differs(self, digest: bytes, said: str) -> None:
        """The two statements differ, so that nothing was signed."""
        _, period, proposed = self._last
        if digest == proposed:
            data = {"period": period, "digest": digest.hex(), "where": "statement", "said": said}
            self._channel.news.happened("discrepancy.found", self._channel.id, data)

    def _name(self, *, ours: bool) -> str:
        log = self._channel.own if ours else self._channel.peer
        return log.party.name
