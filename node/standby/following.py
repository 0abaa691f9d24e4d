"""The standby's side: dial the primary, take what it sends, make it durable, and say so.

The primary is dialled again for as long as it takes. What arrives while the whole store is under
way waits in files beside it, so what was mirrored before stands until the new is complete.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from tallystick.node.errors import PeerUnreachable
from tallystick.node.home import Home
from tallystick.node.standby import beside
from tallystick.node.standby.applying import Mirrored
from tallystick.node.standby.inflow import Inflow
from tallystick.node.standby.talk import Talk
from tallystick.node.store.keyspace import FORMAT_VERSION
from tallystick.node.streams import Stream
from tallystick.protocol.errors import FormatError, TallyError, lone_error
from tallystick.protocol.mirror import (
    FRAME_BYTES_MAX,
    MIRROR_VERSION,
    Applied,
    Beat,
    Begin,
    Beside,
    Files,
    Greet,
    Message,
    Part,
    Piece,
    Refusal,
    Successor,
    Wanted,
)

AGAIN_SECONDS = (0.2, 5.0)  # between two attempts: at first, and at most
SILENCE_SECONDS = 20.0
BEAT_SECONDS = 5.0
HAND_OVER_SECONDS = 15.0

_log = logging.getLogger("tallystick.standby")


class Following:
    """Keeps a home like its primary's; `dial` makes a stream to it."""

    def __init__(
        self, home: Home, mirrored: Mirrored, primary: str, dial: Callable[[], Awaitable[Stream]]
    ) -> None:
        self.home = home
        self.primary = primary
        self.mirrored = mirrored
        self.connected = False
        self.catching_up = False  # until it has what it missed
        self.waited_for = False  # the primary acknowledges nothing that is not here
        self.heard_at: float | None = None  # by trio's clock
        self.said = ""  # why there is no connection
        self._dial = dial
        self._talk: Talk | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._again = trio.Event()

    async def run(self) -> None:
        """Follow the primary until `hand_over`, and after `go_on` again."""
        while True:
            with self._scope:
                await self._keep_following()
            self._ended.set()
            await self._again.wait()
            self._again = trio.Event()

    def go_on(self) -> None:
        """This node could not take over: follow the primary again, if it is still there."""
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self._again.set()

    async def _keep_following(self) -> None:
        pause = AGAIN_SECONDS[0]
        while True:
            began = trio.current_time()
            try:
                await self._follow()
            except* (TallyError, OSError) as group:
                self._note(lone_error(group))
                if isinstance(lone_error(group), FormatError):
                    self.mirrored.forget()  # the whole mends what does not fit together
            steady = trio.current_time() - began > AGAIN_SECONDS[1]
            pause = AGAIN_SECONDS[0] if steady else min(pause * 2, AGAIN_SECONDS[1])
            await trio.sleep(pause)

    def _note(self, error: BaseException) -> None:
        said = error.message if isinstance(error, TallyError) else str(error)
        if said != self.said:
            _log.warning("the primary is not followed", extra={"reason": said})
        self.said = said

    async def hand_over(self, generation: int, proof: bytes) -> bool:
        """Tell the primary that this node takes over, and take what it still has; whether it
        heard that. The primary is not followed any more, unless it is to `go_on`.
        """
        told = False
        if self._talk is not None and self.connected:
            with trio.move_on_after(HAND_OVER_SECONDS):
                try:
                    await self._talk.say(Successor(generation, proof))
                    told = True
                except PeerUnreachable:
                    pass
                while self.connected:  # it closes when all is here
                    await trio.sleep(0.02)
        self._scope.cancel()
        await self._ended.wait()
        return told

    async def _follow(self) -> None:
        """One connection."""
        talk = Talk(await self._dial(), FRAME_BYTES_MAX)
        inflow = Inflow(self.mirrored, self.home.path)
        try:
            here = self.mirrored
            await talk.say(Greet(MIRROR_VERSION, FORMAT_VERSION, here.line, here.number))
            async with trio.open_nursery() as nursery:
                self._talk = talk
                nursery.start_soon(self._apply, talk, inflow)
                nursery.start_soon(self._beat, talk)
                await self._listen(talk, inflow)
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await trio.to_thread.run_sync(inflow.finish)
                finally:
                    self.connected = self.catching_up = False
                    self._talk = None
                    await talk.aclose()

    async def _beat(self, talk: Talk) -> None:
        while True:
            await trio.sleep(BEAT_SECONDS)
            await talk.say(Beat())

    async def _listen(self, talk: Talk, inflow: Inflow) -> None:
        while True:
            await inflow.room()
            with trio.move_on_after(SILENCE_SECONDS) as waiting:
                for message in await talk.receive():
                    await self._take(message, inflow, talk)
            if waiting.cancelled_caught:
                raise PeerUnreachable(f"the primary said nothing for {SILENCE_SECONDS:g} seconds")
            self.heard_at = trio.current_time()

    async def _take(self, message: Message, inflow: Inflow, talk: Talk) -> None:
        match message:
            case Begin():
                self.connected, self.said = True, ""
                self.catching_up, self.waited_for = True, message.waits
                _log.info("the primary is followed", extra={"whole": message.whole})
                inflow.begin(message)
            case Part():
                inflow.part(message)
            case Piece():
                await trio.to_thread.run_sync(inflow.piece, message)
            case Files():
                names = await trio.to_thread.run_sync(inflow.lacking, message)
                await talk.say(Wanted(names))
            case Beside():
                await trio.to_thread.run_sync(beside.keep, self.home, message)
            case Refusal():
                raise PeerUnreachable(f"the primary refuses: {message.reason}")
            case Beat():
                pass
            case _:
                raise FormatError("the primary said what only a standby says")

    async def _apply(self, talk: Talk, inflow: Inflow) -> None:
        """Make durable what arrived, all that is there together, and say so."""
        while True:
            await inflow.apply_next()
            self.catching_up = inflow.catching_up
            await talk.say(Applied(self.mirrored.number))
