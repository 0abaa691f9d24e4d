"""Our heads to the witnesses: newest co-signed heads now and then, those of checkpoints for sure.

Each log that we author is shown to every witness of the configuration; of a peer's log only heads
in checkpoints, since the peer shows its own. Heads of checkpoints go before newer ones, because a
witness never goes back. A line is verified, then stored, then counted. Nothing waits for any of
this but a checkpoint for which lines are required.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from random import SystemRandom

import msgspec
import trio

from tallystick.node import proving
from tallystick.node.books import Books
from tallystick.node.errors import Unanswered
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import AskedRow
from tallystick.node.tree import LogTree
from tallystick.node.witnessing.asked import asked_witnesses
from tallystick.node.witnessing.asking import PARALLEL, Asker
from tallystick.node.witnessing.contact import Contact, Which
from tallystick.node.witnessing.lines import (
    contradicted,
    put_asked,
    put_lines,
    read_asked,
    read_lines,
)
from tallystick.protocol.errors import FormatError, ProofError, TallyError
from tallystick.protocol.heads import head_text
from tallystick.protocol.notes import Note, parse_note
from tallystick.protocol.policy import Judgement, judge
from tallystick.protocol.witness import AddCheckpoint, Behind, Cosigned, Refused

PINNED_MAX = 8  # heads that a checkpoint may name, of each log
TRIES = 3  # a witness says its size, and is asked again from there
PROBE_SECONDS = 86_400.0

_log = logging.getLogger("tallystick.witness")


class Submitter:
    """Shows the heads of a node's channels to its witnesses."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.settings = books.config.witnessing
        self.policy, asked = asked_witnesses(self.settings)
        dice = SystemRandom()
        self.contacts = [Contact(one, self.settings.every_seconds, dice) for one in asked]
        self._pinned: dict[Which, list[int]] = {}  # sizes that a checkpoint may name soon
        self._lined = trio.Event()
        if self.contacts:
            books.news.on_changed.append(self._changed)
            books.news.on_closed.append(self._closed)
            books.news.closing = self.closing

    async def run(self) -> None:
        """Ask, for as long as the node runs."""
        async with trio.open_nursery() as nursery:
            for key in self._books.channels if self.contacts else ():
                self._changed(key)
                self._closed(key)
            for contact in self.contacts:
                asker = Asker(contact.asked, self.settings)
                nursery.start_soon(self._close_at_end, asker)
                for _ in range(PARALLEL):
                    nursery.start_soon(self._work, contact, asker)

    async def _close_at_end(self, asker: Asker) -> None:
        try:
            await trio.sleep_forever()
        finally:
            await asker.aclose()

    # What is wanted

    def _changed(self, channel: bytes) -> None:
        if channel in self._books.channels:
            self._want(Which(channel, ours=True))

    def _closed(self, channel: bytes) -> None:
        """A checkpoint names heads of both logs."""
        if self._books.channels[channel][1].last is not None:
            self._want(Which(channel, ours=True))
            if self.settings.both:
                self._want(Which(channel, ours=False))

    def _want(self, which: Which, *, at_once: bool = False) -> None:
        for contact in self.contacts:
            contact.want(which, trio.current_time(), at_once=at_once)

    async def closing(self, key: bytes, provider_size: int, consumer_size: int) -> str:
        """A checkpoint will name these heads: show them now, and wait for the lines on ours that
        are required; what is lacking, in words.
        """
        channel, _ = self._books.channels[key]
        own = 0
        for role, size in (("provider", provider_size), ("consumer", consumer_size)):
            which = Which(key, role == channel.role)
            log = self._log_of(which)
            if (which.ours or self.settings.both) and self._is_cosigned(log, size):
                pinned = [one for one in self._pinned.get(which, ()) if one != size]
                self._pinned[which] = [*pinned, size][-PINNED_MAX:]
                self._want(which, at_once=True)
                own = size if which.ours else own
        if not self.settings.require or not own:
            return ""
        with trio.move_on_after(self.settings.wait_seconds):
            while not self.judgement(channel.own, own).quorum_reached:
                await self._lined.wait()
        said = self.judgement(channel.own, own)
        if said.quorum_reached:
            return ""
        away = ", ".join(one.name for one in said.missing)
        return (
            f"{len(said.held)} of {self.settings.require} witnesses that are required have"
            f" co-signed the head of {own} records of {channel.own.party.name}'s log; not {away}"
        )

    def judgement(self, log: ChannelLog, size: int) -> Judgement:
        """Which witnesses' lines on a head are here, by the policy of the configuration."""
        with log.store.read() as txn:
            row = log.head_row(txn, size)
            lines = read_lines(txn, log.number, size, row.root) if row else []
        text = head_text(log.head(size, row.root if row else bytes(32)))
        return judge(self.policy, Note(text, tuple(lines)))

    def _is_cosigned(self, log: ChannelLog, size: int) -> bool:
        if not 0 < size <= log.durable_size:
            return False
        with log.store.read() as txn:
            row = log.head_row(txn, size)
        return row is not None and bool(row.signature) and bool(row.cosignature)

    def _log_of(self, which: Which) -> ChannelLog:
        channel = self._books.channels[which.channel][0]
        return channel.own if which.ours else channel.peer

    # Asking

    async def _work(self, contact: Contact, asker: Asker) -> None:
        while True:
            which = await contact.take()
            try:
                await self._show(contact, asker, which)
            except Unanswered as error:
                self._unreachable(contact, which, error.message)
            except TallyError as error:  # the disk, or a head that is not here any more
                if self._books.store.stopped:
                    return
                said = {"witness": contact.asked.name, "reason": error.message}
                _log.error("a head cannot be shown to a witness", extra=said)
                contact.refused(which, error.message, self._books.clock_us() / 1e6)
            except Exception:  # noqa: BLE001 - a witness must not take the node with it
                _log.exception("asking a witness failed inside the node")
                contact.failed(which, "an error of this node: see its log")

    def _unreachable(self, contact: Contact, which: Which, said: str) -> None:
        if not contact.standing.failing:
            named = {"witness": contact.asked.name, "reason": said}
            _log.warning("a witness cannot be reached", extra=named)
        contact.standing.counts["unreachable"] += 1
        contact.failed(which, said)

    async def _show(self, contact: Contact, asker: Asker, which: Which) -> None:
        """Show a log's next head to a witness."""
        log = self._log_of(which)
        vkey = contact.asked.vkeys[0]
        with log.store.read() as txn:
            asked = read_asked(txn, log.number, vkey)
        old = asked.size
        said = ""
        for _ in range(TRIES):
            size = self._next_size(contact, which, log, old)
            if size is None:
                break
            request = await trio.to_thread.run_sync(_request, log, size, old)
            try:
                answer = await asker.ask(request)
            except Refused as refused:
                if refused.status == 429 or refused.status >= 500:
                    raise Unanswered(f"{refused.status}: {refused.message}") from None
                contact.standing.counts["refused"] += 1
                said = f"{refused.status}: {refused.message}"
                if refused.status == 422:
                    said = f"it does not believe that {size} records follow on {old}: {said}"
                    await self._breach(contact, which, log, said)
                break
            except (FormatError, ProofError) as error:
                contact.standing.counts["nonsense"] += 1
                said = error.message
                await self._breach(contact, which, log, said)
                break
            if isinstance(answer, Behind):
                contact.standing.counts["behind"] += 1
                if answer.size < asked.size:
                    await self._convict(contact, asker, which, answer.size)
                said, old = await self._behind(contact, which, log, (old, size), answer.size)
                if said:
                    break
                continue
            contact.standing.counts["cosigned"] += 1
            await self._keep(contact, which, log, size, answer)
            await self._probe(contact, asker, which, log, size)
            old = size
            break
        else:
            said = "it names another size each time"
        now_s = self._books.clock_us() / 1e6
        if said:
            known = contact.standing.refused.get(which)
            if said != known:
                _log.warning("a witness does not co-sign", extra=_named(contact, log, said))
            contact.refused(which, said, now_s)
        else:
            contact.done(which, now_s)
            if self._next_size(contact, which, log, old) is not None:
                contact.want(which, trio.current_time())

    def _next_size(self, contact: Contact, which: Which, log: ChannelLog, seen: int) -> int | None:
        """Which head comes next for a witness that has seen a size; None if none does. The first
        that a checkpoint names, or else the newest.
        """
        _, closer = self._books.channels[which.channel]
        sizes = set(self._pinned.get(which, ()))
        if closer.last is not None:
            sizes.add(closer.last.size_of(log.role))
        names = [(vkey.name, vkey.id) for vkey in contact.asked.vkeys]
        newest: list[int] = [log.cosigned_size] if which.ours else []
        with log.store.read() as txn:
            for size in [*sorted(sizes), *newest]:
                row = log.head_row(txn, size) if size >= max(seen, 1) else None
                if row is None or not row.signature or not row.cosignature:
                    continue
                lines = read_lines(txn, log.number, size, row.root)
                if not any((line.name, line.key_id) in names for line in lines):
                    return size
        return None

    async def _behind(
        self, contact: Contact, which: Which, log: ChannelLog, sent: tuple[int, int], its: int
    ) -> tuple[str, int]:
        """The witness says which size it has seen: what is wrong with that, and where to go on."""
        old, size = sent
        if its == old:
            said = f"it says that it has seen {its} records and refuses a proof from there"
            await self._breach(contact, which, log, said)
            return said, old
        if its < old:
            await self._breach(
                contact,
                which,
                log,
                f"it went back from {old} records, which it co-signed, to {its}",
            )
        if its > size and which.ours and its > log.durable_size:
            said = (
                f"it has seen {its} records of our log and {log.durable_size} are here: this home"
                " lost records, another node signs with our key, or the witness errs"
            )
            await self._breach(contact, which, log, said)
            return said, old
        return "", its  # of a peer's log it may have seen more: this head is too old for it then

    async def _keep(
        self,
        contact: Contact,
        which: Which,
        log: ChannelLog,
        size: int,
        lines: tuple[Cosigned, ...],
    ) -> None:
        """Store what a witness said, durably."""
        _, closer = self._books.channels[which.channel]
        closed = [row.size_of(log.role) for row in closer.rows]
        kept = sorted({*closed, *self._pinned.get(which, ())})
        vkey = contact.asked.vkeys[0]
        with log.store.read() as txn:
            row = log.head_row(txn, size)
            asked = read_asked(txn, log.number, vkey)
            assert row is not None
            head = log.head(size, row.root)
            evidence = contradicted(txn, log, asked.size, head, lines)
        at_s = max(one.at_s for one in lines)
        if at_s < asked.at_s:
            await self._breach(contact, which, log, "its times go back", evidence)
            with log.store.read() as txn:
                asked = read_asked(txn, log.number, vkey)
        new = msgspec.structs.replace(asked, size=size, at_s=at_s)

        def job(txn: Txn) -> None:
            put_lines(txn, log.number, head, lines, kept)
            put_asked(txn, log.number, vkey, new)

        await self._books.store.commit(job)
        self._lined.set()
        self._lined = trio.Event()

    async def _probe(
        self, contact: Contact, asker: Asker, which: Which, log: ChannelLog, size: int
    ) -> None:
        """Ask now and then what every witness must refuse: one that co-signs it proves nothing."""
        now = trio.current_time()
        if now - contact.probed_at < PROBE_SECONDS:
            return
        contact.probed_at = now
        request = await trio.to_thread.run_sync(_request, log, size, 0)
        with suppress(Refused, FormatError, ProofError, Unanswered):
            if not isinstance(await asker.ask(request), Behind):
                said = "it co-signs without a proof that the head follows on what it co-signed"
                await self._breach(contact, which, log, said)

    async def _convict(self, contact: Contact, asker: Asker, which: Which, its: int) -> None:
        """A witness says that it has seen less than it co-signed, which is no proof of anything. A
        line of now on the older head is one: ask for it. Who does not give it is not convicted.
        """
        log = self._log_of(which)
        if not self._is_cosigned(log, its):
            return
        request = await trio.to_thread.run_sync(_request, log, its, its)
        with suppress(Refused, FormatError, ProofError, Unanswered):
            answer = await asker.ask(request)
            if isinstance(answer, Behind):
                return
            with log.store.read() as txn:
                before = read_asked(txn, log.number, contact.asked.vkeys[0]).size
                evidence = contradicted(txn, log, before, request.head, answer)
            if evidence:
                said = f"it went back from {before} records, and co-signed {its} again"
                await self._breach(contact, which, log, said, evidence)

    async def _breach(
        self, contact: Contact, which: Which, log: ChannelLog, said: str, evidence: bytes = b""
    ) -> None:
        """A witness did what none may do: keep that, and say so once. What convicts it stays."""
        vkey = contact.asked.vkeys[0]
        with log.store.read() as txn:
            asked = read_asked(txn, log.number, vkey)
        if asked.breach == said:
            return
        kept = evidence or asked.evidence
        row = AskedRow(asked.size, asked.at_s, said, self._books.clock_us(), kept)
        await self._books.store.commit(lambda txn: put_asked(txn, log.number, vkey, row))
        _log.error("a witness does what none may do", extra=_named(contact, log, said))
        data = {"witness": contact.asked.name, "log": log.party.name, "said": said}
        self._books.news.happened("witness.breach", which.channel, data)


def _request(log: ChannelLog, size: int, old: int) -> AddCheckpoint:
    """The request that shows a head of a log to a witness that has seen an old size.

    It carries the author's line alone: whom the log is shared with is no business of a witness.
    """
    with log.store.read() as txn:
        signed = parse_note(proving.signed_head(log, txn, size))
        note = Note(signed.text, signed.signatures[:1])
        tree = LogTree(txn, log.number, log.channel_id, size)
        return AddCheckpoint(old, tuple(tree.consistency(old)), note)


def _named(contact: Contact, log: ChannelLog, said: str) -> dict[str, object]:
    short = log.channel_id.hex()[:8]
    return {"witness": contact.asked.name, "channel": short, "log": log.party.name, "reason": said}
