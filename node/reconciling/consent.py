"""Consent to a session that a peer asks for: an offer that a person made, or a standing rule.

An offer is a prepared set that stands until it is used, withdrawn or too old. It is used up when
rows were opened with it, and after a few sessions that came to nothing: each shows the peer a
little. A rule of the configuration has a file prepared when the peer asks, so many times a day.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
import trio

from tallystick.node.channel import Channel
from tallystick.node.config import ReconcileRule
from tallystick.node.errors import StoreError
from tallystick.node.reconciling.preparing import Request
from tallystick.node.reconciling.sets import FOLDER, PreparedSet, folder_of
from tallystick.protocol.errors import InputError, SessionStopped
from tallystick.protocol.messages import AskReconcile

TRIES_MAX = 3  # of an offer
DAY_SECONDS = 86_400
LEFT_SECONDS = 3600  # a set that is so old, and no offer, nobody is making any more


class Consents:
    """What this node has consented to. `clock_s` is the time of day in seconds."""

    def __init__(
        self, home: Path, rules: Sequence[ReconcileRule], clock_s: Callable[[], float]
    ) -> None:
        self._home = home
        self._rules = rules
        self._clock_s = clock_s
        self._offers: dict[str, PreparedSet] = {}
        self._tries: Counter[str] = Counter()
        self._uses: dict[int, list[float]] = {}  # of each rule, when

    def load(self, used: Collection[str] = ()) -> None:
        """Take the offers that stand from an earlier start; remove what else is left of then, and
        the sets that were `used`: rows were opened with them.
        """
        for path in (self._home / FOLDER).glob("*"):
            if path.name in used:
                shutil.rmtree(path, ignore_errors=True)
                continue
            try:
                found = PreparedSet(path)
                if found.about.expires_at_s > self._clock_s():
                    self._offers[found.name] = found
                    continue
            except StoreError:
                pass  # it was not finished
            if path.stat().st_mtime < self._clock_s() - LEFT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    def offers(self) -> list[PreparedSet]:
        """The offers that stand."""
        for offer in list(self._offers.values()):
            if offer.about.expires_at_s <= self._clock_s():
                self.end(offer)
        return list(self._offers.values())

    def add(self, offer: PreparedSet) -> None:
        """Let an offer stand; another one of the same period to the same peer ends."""
        for other in self.offers():
            same = (other.about.channel, other.about.period)
            if same == (offer.about.channel, offer.about.period):
                self.end(other)
        self._offers[offer.name] = offer

    def withdraw(self, prefix: str) -> PreparedSet:
        """End an offer."""
        found = [offer for offer in self.offers() if offer.name.startswith(prefix)]
        if len(found) != 1 or not prefix:
            raise InputError(f"no one offer begins with {prefix!r}", "See: tally reconcile --list")
        self.end(found[0])
        return found[0]

    def end(self, offer: PreparedSet) -> None:
        """An offer is used up, or too old."""
        self._forget(offer)
        offer.remove()

    def _forget(self, offer: PreparedSet) -> None:
        self._offers.pop(offer.name, None)
        self._tries.pop(offer.name, None)

    async def used(self, with_: PreparedSet, *, opened: bool) -> None:
        """A session with a set has ended. A large set takes a while to be removed."""
        if with_.name in self._offers:
            self._tries[with_.name] += 1
            if not opened and self._tries[with_.name] < TRIES_MAX:
                return
            self._forget(with_)
        await trio.to_thread.run_sync(with_.discard)

    async def find(self, channel: Channel, ask: AskReconcile) -> PreparedSet:
        """The rows that may be reconciled with what a peer asks; `SessionStopped` if none may."""
        for offer in self.offers():
            if (offer.about.channel, offer.about.period) == (channel.id.hex(), ask.period):
                return _fitting(offer, ask)
        peer = channel.peer_keys.name
        for number, rule in enumerate(self._rules):
            if rule.peer == peer and fnmatchcase(ask.period, rule.period):
                return _fitting(await self._by_rule(number, rule, channel, ask), ask)
        raise SessionStopped(
            f"there is no consent here to reconcile {ask.period} with {peer}", code="no-consent"
        )

    async def _by_rule(
        self, number: int, rule: ReconcileRule, channel: Channel, ask: AskReconcile
    ) -> PreparedSet:
        now = self._clock_s()
        uses = [at for at in self._uses.get(number, []) if at > now - DAY_SECONDS]
        if len(uses) >= rule.sessions_per_day:
            raise SessionStopped(
                f"{len(uses)} sessions in a day, no more are consented to", code="too-often"
            )
        self._uses[number] = [*uses, now]
        channel.own.folder.calendar.parse(ask.period)  # what is put into the path is a period
        request = Request(
            rule.file.replace("{period}", ask.period.replace(":", "")),
            rule.map,
            ask.period,
            rule.open,
            ask.by,
            ask.resolution_us,
        )
        arguments = (str(self._home), channel.id.hex(), request)
        done = await trio.run_process(
            [sys.executable, "-m", "tallystick.node.reconciling.preparing"],
            stdin=msgspec.json.encode(arguments),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        if done.returncode:
            raise StoreError(f"the rows for {ask.period} cannot be prepared: {_said(done.stderr)}")
        return PreparedSet(folder_of(self._home) / done.stdout.decode())


def _said(stderr: bytes) -> str:
    return stderr.decode(errors="replace").strip() or "its process was killed"


def _fitting(found: PreparedSet, ask: AskReconcile) -> PreparedSet:
    """The set, if its rows are compared as the peer's are."""
    about = found.about
    ours, theirs = _described(about.by, about.resolution_us), _described(ask.by, ask.resolution_us)
    if ours != theirs:
        raise SessionStopped(
            f"rows are compared {ours} here and {theirs} there",
            "Agree on --by and --resolution",
            "not-alike",
        )
    if about.meters != ask.meters:
        raise SessionStopped(
            f"the files have other meters: {', '.join(about.meters)} here and"
            f" {', '.join(ask.meters)} there",
            "Map the same meters on both sides",
            "not-alike",
        )
    return found


def _described(by: str, resolution_us: int) -> str:
    return "by id" if by == "id" else f"by content, to {resolution_us / 1e6:g} s"
