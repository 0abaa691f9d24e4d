"""The primary's side: a standby is sent every commit, and commits may wait for it.

With `standby.wait`, nothing is acknowledged, and no head sent to a peer, before the standby has it
too. If it takes too long the node goes on alone, and says so until the standby is in step again.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable
from contextlib import closing, suppress

import trio

from tallystick.node.books import Books
from tallystick.node.config import StandbySettings
from tallystick.node.errors import PeerUnreachable
from tallystick.node.home import Home
from tallystick.node.standby.beside import Watched
from tallystick.node.standby.mode import mark_superseded
from tallystick.node.standby.opening import Opening
from tallystick.node.standby.recording import Recording
from tallystick.node.standby.talk import Talk
from tallystick.node.store.changed import LINE, forget_changes
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import FORMAT_VERSION
from tallystick.node.store.recorder import Row
from tallystick.node.streams import Stream
from tallystick.protocol.errors import TallyError, lone_error
from tallystick.protocol.mirror import (
    MIRROR_VERSION,
    Applied,
    Beat,
    Begin,
    Greet,
    Message,
    Refusal,
    Successor,
    Wanted,
)

BEAT_SECONDS = 2.0
BESIDE_SECONDS = 1.0
SILENCE_SECONDS = 20.0  # a standby that says nothing for so long is taken for gone
GREETING_SECONDS = 10.0
STEP_COMMITS = 64  # so far behind a standby may be and still be waited for
OPEN_TRIES = 4
LEAVE_SECONDS = 10.0
INWARD_BYTES_MAX = 16 * 1024  # what a standby says is short

_log = logging.getLogger("tallystick.standby")


def line_of(store: Store) -> bytes:
    """What names the commits of this store; drawn when it is first asked for, and from then on it
    is noted what each of them changes.
    """
    with store.read() as txn:
        found = txn.get("meta", LINE)
    if found is None:
        found = drawn = secrets.token_bytes(16)

        def job(txn: Txn) -> None:
            forget_changes(txn)
            txn.put("meta", LINE, drawn)

        store.commit_now(job)
        store.noting = True
    return found


def end_line(store: Store) -> None:
    """No standby is served any more: note nothing. One that comes later is sent everything."""
    if store.noting:
        store.noting = False

        def job(txn: Txn) -> None:
            forget_changes(txn)
            txn.delete("meta", LINE)

        store.commit_now(job)


class Mirroring:
    """Serves the standby of one node, one at a time: who connects last.

    `tell(kind, data)` is called when commits are no longer waited for, and when they are again;
    `superseded` is set when the standby took over and has everything.
    """

    def __init__(self, home: Home, books: Books, superseded: trio.Event) -> None:
        self.home = home
        self.superseded = superseded
        self._books = books
        self._settings: StandbySettings = books.config.standby
        self.line = line_of(books.store)
        self.recording = Recording(books.store, books.index_folder)
        self.tell: Callable[[str, dict[str, object]], None] = lambda kind, data: None
        self.connected = False
        self.applied = 0  # by the standby that is connected
        self.alone = False  # commits are not waited for, though they should be
        self.alone_times = 0
        self._stopping = False
        self._grown = trio.Event()
        self._acknowledged = trio.Event()
        self._leaving = False  # the standby takes over
        self._scope = trio.CancelScope()
        self._turn = trio.Lock()
        books.store.recorder = self

    @property
    def lag(self) -> int:
        """How many commits the standby does not have yet."""
        return self.recording.newest - self.applied

    @property
    def in_step(self) -> bool:
        """Whether a standby is there that has everything, or nearly."""
        return self.connected and self.applied > 0 and self.lag <= STEP_COMMITS

    def document(self) -> dict[str, object]:
        """How it stands, for people and programs."""
        return {
            "role": "primary",
            "connected": self.connected,
            "in_step": self.in_step,
            "lag_commits": self.lag if self.connected and self.applied else None,
            "wait": self._settings.wait,
            "alone": self.alone,
        }

    # What the store calls

    def took(self, number: int, rows: list[Row]) -> None:
        """A commit is durable here; see `Recorder`."""
        self.recording.took(number, rows)

    async def shared(self) -> bool:
        """Wait until the standby has what was committed, if it is waited for; False if the node
        stops before that.
        """
        if self._leaving:  # it was recorded too late: nobody may be told that it was
            return False
        self._grown.set()
        self._grown = trio.Event()
        number = self.recording.newest
        with trio.move_on_after(self._settings.wait_seconds or math.inf):
            while self._settings.wait and not self.alone and self.applied < number:
                if self._leaving or (self._stopping and not self.connected):
                    return False
                await self._acknowledged.wait()
            return True
        self._go_alone()
        return True

    def stop(self) -> None:
        """The node stops: no standby that is not there is waited for any more."""
        self._stopping = True
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        self._acknowledged.set()
        self._acknowledged = trio.Event()

    def _go_alone(self) -> None:
        self.alone = True
        self.alone_times += 1
        self._wake_waiting()
        _log.error(
            "the standby does not follow: what is acknowledged from now on is on this machine alone"
        )
        self.tell("standby.alone", {"after_seconds": self._settings.wait_seconds})

    def _heard(self, number: int) -> None:
        self.applied = max(self.applied, min(number, self.recording.newest))
        if self.alone and self.in_step:
            self.alone = False
            _log.warning("the standby is in step again: it is waited for")
            self.tell("standby.back", {"lag_commits": self.lag})
        if self._leaving and not self.lag:
            self.superseded.set()
        self._wake_waiting()

    # The connection

    async def serve(self, stream: Stream) -> None:
        """Speak with the party's standby on an authenticated stream until it ends."""
        self._scope.cancel()  # the one that was there is gone, or gives way
        async with self._turn:
            talk = Talk(stream, INWARD_BYTES_MAX)
            try:
                with trio.CancelScope() as self._scope:
                    await self._speak(talk)
            except* TallyError as group:
                _log.warning("the standby is gone", extra={"reason": lone_error(group)})
            finally:
                self.connected, self.applied = False, 0
                self._wake_waiting()
                with trio.CancelScope(shield=True):
                    await talk.aclose()

    async def _speak(self, talk: Talk) -> None:
        greet = await self._greeting(talk)
        if greet is None:
            return
        since = greet.number if greet.line == self.line else None
        self.recording.begin()
        try:
            async with trio.open_nursery() as nursery:
                said, wanted = trio.open_memory_channel[list[str]](1)
                nursery.start_soon(self._listen, talk, nursery, said)
                opening = await trio.to_thread.run_sync(self._opening, since)
                try:
                    await self._begin(talk, opening)
                    nursery.start_soon(self._send_beside, talk)
                    number = await self._send_opening(talk, opening, wanted)
                finally:
                    opening.close()  # or the store's file would grow for as long as it is held
                await self._send_commits(talk, number)
        finally:
            self.recording.end()

    async def _greeting(self, talk: Talk) -> Greet | None:
        message: Message | None = None
        with trio.move_on_after(GREETING_SECONDS):
            while message is None:
                message = next(await talk.receive(), None)
        if not isinstance(message, Greet):
            raise PeerUnreachable("the standby did not greet")
        if (message.version, message.format) == (MIRROR_VERSION, FORMAT_VERSION):
            return message
        await talk.say(Refusal("the two nodes are of different versions of tally: use the same"))
        return None

    def _opening(self, since: int | None) -> Opening:
        store, folder = self._books.store, self._books.index_folder
        for _ in range(OPEN_TRIES):
            with suppress(FileNotFoundError):  # merged away while we looked
                return Opening(store, folder, since)
        # It was missing when this node started, and the rows of the new index wait for a standby.
        return Opening(store, folder, since, without=True)

    async def _begin(self, talk: Talk, opening: Opening) -> None:
        _log.info("a standby follows", extra={"whole": opening.whole, "number": opening.number})
        await talk.say(Begin(self.line, opening.number, opening.whole, self._settings.wait))
        self.connected = True

    async def _send_opening(
        self, talk: Talk, opening: Opening, wanted: trio.MemoryReceiveChannel[list[str]]
    ) -> int:
        """Bring the standby up to date, with what is committed meanwhile; up to which commit."""
        number = opening.number
        groups = opening.files()
        while (files := await trio.to_thread.run_sync(next, groups, None)) is not None:
            await talk.say(files)
            names = {name for name, _ in files.files}
            for name in await wanted.receive():
                if name not in names:
                    raise PeerUnreachable("the standby wants a file that it was not offered")
                for piece in opening.pieces(name):
                    await talk.say(piece)
        with closing(opening.parts()) as rest:
            while (part := await trio.to_thread.run_sync(next, rest, None)) is not None:
                await talk.say(part)
                number = await self._send_new(talk, number)
        return number

    async def _send_new(self, talk: Talk, number: int) -> int:
        """Send the commits after a number; the newest of them."""
        commits = self.recording.after(number)
        if commits is None:
            raise PeerUnreachable("it fell too far behind, and is told anew what changed")
        for commit in commits:
            for message in commit.messages():
                await talk.say(message)
            number = commit.number
        self.recording.sent(number)
        return number

    async def _send_commits(self, talk: Talk, number: int) -> None:
        """Send commits as they come."""
        while True:
            grown = self._grown
            number = await self._send_new(talk, number)
            if number < self.recording.newest:
                continue
            with trio.move_on_after(BEAT_SECONDS) as waiting:
                await grown.wait()
            if waiting.cancelled_caught:
                await talk.say(Beat())

    async def _send_beside(self, talk: Talk) -> None:
        """Send what is kept beside the store whenever it is another."""
        watched = Watched(self.home)
        while True:
            for message in await trio.to_thread.run_sync(watched.news):
                await talk.say(message)
            await trio.sleep(BESIDE_SECONDS)

    async def _listen(
        self, talk: Talk, nursery: trio.Nursery, wanted: trio.MemorySendChannel[list[str]]
    ) -> None:
        while True:
            with trio.move_on_after(SILENCE_SECONDS) as waiting:
                for message in await talk.receive():
                    match message:
                        case Applied():
                            self._heard(message.number)
                        case Wanted():
                            await wanted.send(message.names)
                        case Successor():
                            self._hand_over(message)
                            nursery.start_soon(self._leave)
                        case Beat():
                            pass
                        case _:
                            raise PeerUnreachable("the standby said what only a primary says")
            if waiting.cancelled_caught:
                raise PeerUnreachable(f"it said nothing for {SILENCE_SECONDS:g} seconds")

    def _hand_over(self, message: Successor) -> None:
        """The standby takes over: stop, durably, before anything else is done."""
        identity = self._books.identity
        if not mark_superseded(self.home, identity, message.generation, message.proof):
            raise PeerUnreachable("the standby claims a generation that its party did not sign")
        _log.error(
            "the standby takes over: this node stops, and signs nothing any more",
            extra={"generation": message.generation},
        )
        self._leaving = True
        if not self.lag:
            self.superseded.set()

    async def _leave(self) -> None:
        """Give the standby some time to get what was acknowledged before."""
        await trio.sleep(LEAVE_SECONDS)
        self.superseded.set()
