"""Reconciliation sessions of a running node: between the links that carry them and the protocol's
state machine, which runs in a thread and decides everything.

One session at a time in a channel. It has its own queue and its own task, waits for the peer only
so long, and ends when the link does. Whatever happens in it stops this session alone: nothing of it
touches the channel's logs but one `Disclosure` record at its end, if rows were opened. If the node
does not live to write it, its next start does.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.reconciling import disclosing, kept
from tallystick.node.reconciling.consent import Consents
from tallystick.node.reconciling.disclosing import Opened
from tallystick.node.reconciling.sets import PreparedSet, folder_of
from tallystick.protocol.errors import InputError, PeriodError, SessionStopped, TallyError
from tallystick.protocol.messages import (
    AskReconcile,
    InReconciliation,
    ReconcileStop,
    encode_message,
    plain,
)
from tallystick.protocol.reconcile import CHANCE_SIZE, Asker, Consenter

if TYPE_CHECKING:
    from tallystick.node.link import Link

SILENCE_SECONDS = 60.0  # a peer that says nothing in a session for so long
CONSENT_SECONDS = 900.0  # the same while it may have to prepare a large file
WAITING_MAX = 32  # messages of the peer that wait to be worked on
ENDED_MAX = 64  # sessions whose end is remembered for who asks
FRAME_HEADER = 4

_T = TypeVar("_T")
_S = TypeVar("_S", Asker, Consenter)
_Converse = Callable[["Run"], Awaitable[None]]

_log = logging.getLogger("tallystick.reconciling")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a session stands: what it does, both sides' rows, how many of ours were opened, and its
    name once both sides have spoken.
    """

    step: str = "preparing"
    rows_ours: int | None = None
    rows_theirs: int | None = None
    opened: int = 0
    name: str = ""


class Run:
    """One session while it runs, and how it ended. Bytes are those of its frames."""

    def __init__(self, channel: Channel, link: Link, session: bytes) -> None:
        self.channel = channel
        self.link = link
        self.session = session
        self.side: Asker | Consenter | None = None
        self.prepared: PreparedSet | None = None
        self.prepared_name = ""
        self.noted = (0, 0)  # rows opened and received that the disk knows of
        self.bytes_sent = self.bytes_received = 0
        self.began_at = trio.current_time()
        self.ended = trio.Event()
        self.stopped: SessionStopped | None = None
        self.standing = Standing()
        self._put, self._waiting = trio.open_memory_channel[InReconciliation](WAITING_MAX)

    def look(self) -> Standing:
        """How it stands now."""
        side = self.side
        if side is not None:
            opening = side.opening
            self.standing = Standing(
                side.step,
                len(side.rows),
                side.rows_theirs if side.name else None,
                len(opening.opened) + len(opening.kin_opened) if opening else 0,
                side.name.hex(),
            )
        return self.standing

    def opened(self) -> Opened | None:
        """What was opened in it and by whom; None if nothing was."""
        side, prepared = self.side, self.prepared
        if side is None or prepared is None or side.opening is None:
            return None
        opening, about = side.opening, prepared.about
        found = Opened(
            about.channel,
            side.name.hex(),
            about.peer,
            about.period,
            prepared.name,
            len(opening.opened) + len(opening.kin_opened),
            len(opening.received) + len(opening.kin_received),
            opening.opened_digest.hex(),
        )
        return found if found.opened or found.received else None

    def let_go(self) -> None:
        """It is over: keep how it stands, and not its rows, which tracebacks hold as well."""
        self.look()
        self.side = None
        if self.stopped is not None:
            self.stopped.__traceback__ = self.stopped.__context__ = None

    def arrived(self, message: InReconciliation) -> None:
        """A message of the peer's came for it."""
        self.bytes_received += FRAME_HEADER + len(encode_message(message))
        if self.stopped is not None:
            return  # what was under way when it stopped
        try:
            self._put.send_nowait(message)
        except trio.WouldBlock:
            self.stopped = SessionStopped("the peer says more than it was asked", code="flood")
            self._put.close()

    def say(self, message: InReconciliation) -> None:
        """Send a message in it."""
        self.bytes_sent += FRAME_HEADER + len(encode_message(message))
        self.link.say(message)

    async def next_message(self, seconds: float) -> InReconciliation:
        """What the peer says next; `SessionStopped` if nothing comes, or the peer stops."""
        message = None
        with trio.move_on_after(seconds):
            try:
                message = await self._waiting.receive()
            except trio.EndOfChannel:
                assert self.stopped is not None
                raise self.stopped from None
        if message is None:
            raise SessionStopped(f"the peer said nothing for {seconds:g} seconds", code="silence")
        if isinstance(message, ReconcileStop):
            raise PeerStopped(message)
        return message


class PeerStopped(SessionStopped):
    """The peer stopped the session; its words are shown as they came."""

    def __init__(self, message: ReconcileStop) -> None:
        reason = plain(message.reason) or "it does not say why"
        advice = ""
        if message.code == "no-consent":
            advice = "There: tally reconcile --offer FILE --period PERIOD --map MAP"
        super().__init__(f"the peer stopped the session: {reason}", advice, plain(message.code))


class Reconciler:
    """The sessions of one node."""

    def __init__(self, books: Books, home: Path) -> None:
        self._books = books
        self._home = home
        self.consents = Consents(home, books.config.reconcile.rules, lambda: books.clock_us() / 1e6)
        self._runs: dict[bytes, Run] = {}  # by channel
        self._ended: dict[bytes, Run] = {}  # by session, the oldest first
        self._threads = trio.CapacityLimiter(1)
        self._nursery: trio.Nursery | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Serve peers from now on; first record what an earlier start opened and did not record."""
        self._nursery = nursery
        left = disclosing.left(self._home)
        self.consents.load({opened.prepared for opened in left})
        for opened in left:
            _log.warning(
                "the node stopped in a session: so many rows were opened, or fewer",
                extra={"peer": opened.peer, "period": opened.period, "rows": opened.opened},
            )
            nursery.start_soon(self._disclose_late, opened)

    async def _disclose_late(self, opened: Opened) -> None:
        """Record what was opened as soon as our log takes it."""
        channel, _ = self._books.channels.get(bytes.fromhex(opened.channel), (None, None))
        try:
            if channel is None:
                raise InputError(f"the channel {opened.channel[:8]} is not here")
            await disclosing.disclose(channel, self._home, opened)
        except Exception as error:  # noqa: BLE001 - it stays on the disk for the next start
            _log.error(
                "a session cannot be recorded in our log",
                extra={"session": opened.session, "reason": error},
            )

    def run_of(self, session: bytes) -> Run:
        """A session that runs or has ended."""
        for run in (*self._runs.values(), *self._ended.values()):
            if run.session == session:
                return run
        raise InputError("no such session runs here", "See: tally reconcile --list")

    def session_with(self, name: str) -> str:
        """The session (hex) that runs or ran with a prepared set; empty if none did."""
        for run in (*self._runs.values(), *reversed(self._ended.values())):
            if run.prepared_name == name:
                return run.session.hex()
        return ""

    def ask(self, channel: Channel, link: Link, name: str) -> Run:
        """Begin a session with a prepared set; it runs by itself."""
        self._refuse_second(channel)
        prepared = PreparedSet(folder_of(self._home) / name)
        run = Run(channel, link, secrets.token_bytes(16))
        run.prepared, run.prepared_name = prepared, name
        self._begin(run, self._ask)
        return run

    def _refuse_second(self, channel: Channel) -> None:
        if channel.id in self._runs:
            raise InputError(
                f"a session with {channel.peer_keys.name} runs already", "Try again when it is done"
            )

    def _begin(self, run: Run, converse: _Converse) -> None:
        assert self._nursery is not None
        self._runs[run.channel.id] = run
        self._nursery.start_soon(self._serve, run, converse)

    def arrived(self, channel: Channel, link: Link, message: InReconciliation) -> None:
        """A peer says something in a session; what no session is for is answered or ignored."""
        run = self._runs.get(channel.id)
        if run is not None and (run.session, run.link) == (message.session, link):
            run.arrived(message)
        elif isinstance(message, AskReconcile) and run is None and self._nursery is not None:
            run = Run(channel, link, message.session)
            run.arrived(message)
            self._begin(run, self._consent)
        elif isinstance(message, AskReconcile):
            said = "a session runs already; try again when it is done"
            link.say(ReconcileStop(channel.id, message.session, "busy", said))

    # One session

    async def _serve(self, run: Run, converse: _Converse) -> None:
        """Run a session to its end, however it ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_with_link, run, nursery.cancel_scope)
                await self._converse(run, converse)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._end(run)

    async def _stop_with_link(self, run: Run, scope: trio.CancelScope) -> None:
        await run.link.ended.wait()
        run.stopped = SessionStopped("the connection to the peer ended", "Try again", "gone")
        scope.cancel()

    async def _converse(self, run: Run, converse: _Converse) -> None:
        try:
            await converse(run)
        except PeerStopped as stopped:
            run.stopped = stopped
        except SessionStopped as stopped:
            run.stopped = stopped
            self._say_why(run, stopped.code, stopped.message)
        except TallyError as error:
            # What is wrong here is for people here: files and paths are not the peer's business.
            run.stopped = SessionStopped(error.message, error.advice, "failed")
            self._say_why(run, "failed", "it failed at the peer, whose log says why")
        except Exception:  # noqa: BLE001 - one session must not take the node with it
            _log.exception("a session failed inside the node")
            run.stopped = SessionStopped("the session failed inside the node", code="failed")
            self._say_why(run, "failed", "it failed at the peer, whose log says why")

    def _say_why(self, run: Run, code: str, reason: str) -> None:
        run.say(ReconcileStop(run.channel.id, run.session, code, reason[:1000]))

    async def _ask(self, run: Run) -> None:
        assert run.prepared is not None
        asker = await self._side(run, Asker, run.prepared)
        run.say(asker.start())
        await self._go_on(run, await run.next_message(CONSENT_SECONDS))

    async def _consent(self, run: Run) -> None:
        ask = await run.next_message(SILENCE_SECONDS)
        assert isinstance(ask, AskReconcile)
        try:
            found = await self.consents.find(run.channel, ask)
        except PeriodError as error:
            raise SessionStopped(error.message, code="no-consent") from None
        run.prepared, run.prepared_name = found, found.name
        consenter = await self._side(run, Consenter, found)
        run.say(consenter.start(ask))
        await self._go_on(run, await run.next_message(SILENCE_SECONDS))

    async def _side(self, run: Run, kind: type[_S], prepared: PreparedSet) -> _S:
        about, chance = prepared.about, secrets.token_bytes(CHANCE_SIZE)
        scope, rows = about.scope(run.session), prepared.row_set()
        side = await self._in_thread(kind, scope, rows, about.opens_max, chance)
        run.side = side
        return side

    async def _go_on(self, run: Run, message: InReconciliation) -> None:
        side = run.side
        assert side is not None
        while True:
            for answer in await self._in_thread(self._receive, run, side, message):
                run.say(answer)
            if side.found is not None:
                return
            message = await run.next_message(SILENCE_SECONDS)

    def _receive(
        self, run: Run, side: Asker | Consenter, message: InReconciliation
    ) -> list[InReconciliation]:
        """What to answer; what is opened with it is on the disk then."""
        answers = side.receive(message)
        opened = run.opened()
        if opened is not None and (opened.opened, opened.received) != run.noted:
            disclosing.note(self._home, opened)
            run.noted = (opened.opened, opened.received)
        return answers

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await trio.to_thread.run_sync(function, *arguments, limiter=self._threads)

    # Its end

    async def _end(self, run: Run) -> None:
        peer = run.channel.peer_keys.name
        opened, opening = run.opened(), run.side is not None and run.side.opening is not None
        try:
            if run.stopped is not None:
                _log.warning("reconciling stopped", extra={"peer": peer, "reason": run.stopped})
            try:
                if opening:
                    await self._keep(run)
            finally:
                run.let_go()
                if run.prepared is not None:
                    await self.consents.used(run.prepared, opened=opening)
                if opened is not None:  # last: until then, a kill ends the offer as well
                    await self._disclose(run.channel, opened)
        except Exception as error:  # noqa: BLE001 - one session must not take the node with it
            _log.exception("the end of a session cannot be kept", extra={"peer": peer})
            run.stopped = run.stopped or SessionStopped(str(error), code="failed")
        finally:
            del self._runs[run.channel.id]
            self._ended[run.session] = run
            while len(self._ended) > ENDED_MAX:
                del self._ended[next(iter(self._ended))]
            run.prepared = None
            run.ended.set()

    async def _keep(self, run: Run) -> None:
        """Keep what was opened."""
        side, prepared = run.side, run.prepared
        assert side is not None and side.opening is not None and prepared is not None
        opening, about = side.opening, prepared.about
        terms = run.channel.terms
        maxima = {meter.name for meter in terms.meters if meter.aggregate == "max"}
        both, shared = await self._in_thread(
            kept.beside, prepared, opening.opened, opening.received, maxima
        )
        ended = kept.Ended(
            side.name.hex(),
            kept.now(),
            str(run.stopped.message) if run.stopped else "",
            about,
            side.rows_theirs,
            side.their_opens_max,
            len(opening.opened) + len(opening.kin_opened),
            len(opening.received) + len(opening.kin_received),
            opening.opened_digest.hex(),
            opening.received_digest.hex(),
            side.commitment.hex(),
            side.salt.hex(),
            side.cells,
            run.bytes_sent,
            run.bytes_received,
            round(trio.current_time() - run.began_at, 3),
            shared,
        )
        rows = await self._in_thread(kept.all_rows, prepared, opening, both)
        await self._in_thread(kept.keep, self._home, ended, rows)

    async def _disclose(self, channel: Channel, opened: Opened) -> None:
        """Record in our log what was opened."""
        with trio.move_on_after(SILENCE_SECONDS) as waiting:
            await disclosing.disclose(channel, self._home, opened)
        if waiting.cancelled_caught and self._nursery is not None:
            _log.error(
                "a session is not in our log, which takes nothing now",
                extra={"session": opened.session},
            )
            self._nursery.start_soon(self._disclose_late, opened)
