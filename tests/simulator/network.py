"""A network that delays, cuts, loses, doubles and reorders, between nodes in one process.

TLS gives a reliable stream, so a frame that is lost, doubled or out of place comes with a cut soon
after; the nodes must bear it anyway. Every frame is shown to those who watch, when it is sent and
when it arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import trio

from tallystick.node.errors import PeerUnreachable
from tallystick.protocol.framing import FrameReader, frame
from tallystick.protocol.messages import FRAME_BYTES_MAX

BUFFER_FRAMES_MAX = 64


@dataclass
class Weather:
    """How bad the network is now; probabilities are for each frame."""

    delay_seconds: float = 0.01
    lose: float = 0.0
    double: float = 0.0
    reorder: float = 0.0
    cut: float = 0.0


class Steady(Weather):
    """The same network for what relies on a stream that is whole as long as it lasts."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather

    def __getattribute__(self, name: str) -> object:
        """Delays and cuts, and no more."""
        if name in ("lose", "double", "reorder"):
            return 0.0
        return getattr(object.__getattribute__(self, "_weather"), name)


@dataclass
class _Way:
    """One direction: frames with the time at which they arrive."""

    frames: deque[tuple[float, bytes]] = field(default_factory=deque)
    changed: trio.Event = field(default_factory=trio.Event)
    closed: bool = False

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class End:
    """One end of a connection, as a `Stream` for a link."""

    def __init__(
        self,
        dice: Random,
        weather: Weather,
        out: _Way,
        back: _Way,
        on_send: Callable[[bytes], None],
        on_receive: Callable[[bytes], None],
        bend: Callable[[bytes], list[bytes]],
    ) -> None:
        self._dice, self.weather = dice, weather
        self._out, self._back = out, back
        self._on_send, self._on_receive, self._bend = on_send, on_receive, bend
        self._reader = FrameReader(FRAME_BYTES_MAX)

    async def send(self, data: bytes) -> None:
        """Send frames; `PeerUnreachable` once the connection is cut."""
        self._reader.feed(data)
        while (body := self._reader.next_body()) is not None:
            while len(self._out.frames) >= BUFFER_FRAMES_MAX and not self._out.closed:
                await self._out.changed.wait()
            if self._out.closed:
                raise PeerUnreachable("the connection was cut")
            self._on_send(body)
            for bent in self._bend(body):
                self._put(bent)
        await trio.lowlevel.checkpoint()

    def _put(self, body: bytes) -> None:
        dice, weather = self._dice, self.weather
        frames = self._out.frames
        at = trio.current_time() + dice.uniform(0, weather.delay_seconds)
        if frames:
            at = max(at, frames[-1][0])
        luck = dice.random()
        if luck < weather.cut:
            self.cut()
            return
        luck -= weather.cut
        if luck < weather.lose:
            self.cut_soon()
            return
        frames.append((at, body))
        luck -= weather.lose
        if luck < weather.double:
            frames.append((at, body))
            self.cut_soon()
        elif luck < weather.double + weather.reorder and len(frames) > 1:
            frames[-1], frames[-2] = (frames[-1][0], frames[-2][1]), (frames[-2][0], body)
            self.cut_soon()
        self._out.notify()

    async def receive(self) -> bytes:
        """The next frame once it has arrived; empty at the end."""
        way = self._back
        while True:
            if way.closed:
                return b""
            if way.frames and way.frames[0][0] <= trio.current_time():
                _, body = way.frames.popleft()
                way.notify()
                self._on_receive(body)
                await trio.lowlevel.checkpoint()
                return frame(body)
            changed = way.changed
            wait = way.frames[0][0] - trio.current_time() if way.frames else float("inf")
            with trio.move_on_after(wait):
                await changed.wait()

    def cut(self) -> None:
        """Both directions end now; what is under way is lost."""
        for way in (self._out, self._back):
            way.closed = True
            way.frames.clear()
            way.notify()

    def cut_soon(self) -> None:
        """The next frames arrive, and then nothing."""
        trio.lowlevel.spawn_system_task(self._cut_later)

    async def _cut_later(self) -> None:
        await trio.sleep(self._dice.uniform(0.05, 2))
        self.cut()

    async def aclose(self) -> None:
        """Close the connection."""
        self.cut()


def connect(
    dice: Random,
    weather: Weather,
    shown: tuple[Callable[[bytes], None], Callable[[bytes], None]],
    arrived: tuple[Callable[[bytes], None], Callable[[bytes], None]],
    bends: tuple[Callable[[bytes], list[bytes]], Callable[[bytes], list[bytes]]],
) -> tuple[End, End]:
    """Both ends of a new connection; `shown` and `arrived` watch what each end means to send and
    gets, `bends` says what it sends instead.
    """
    there, back = _Way(), _Way()
    return (
        End(dice, weather, there, back, shown[0], arrived[0], bends[0]),
        End(dice, weather, back, there, shown[1], arrived[1], bends[1]),
    )
