"""One request as its handler sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from tallystick.node.api.app import World
from tallystick.node.api.keys import ApiKey, Scope
from tallystick.node.api.pacspace.closed import Closed
from tallystick.node.api.pacspace.customers import Customers
from tallystick.node.api.pacspace.wire import bad

PAGE_MAX = 1000
PAGE = 100


@dataclass(frozen=True, slots=True)
class Call:
    """A request: who calls, the ids in its path, its query and its body.

    `once` is what its idempotency key is known by; empty if it has none.
    """

    world: World
    customers: Customers
    closed: Closed
    request: Request
    caller: ApiKey
    ids: Sequence[str]
    query: Mapping[str, str]
    body: bytes
    once: bytes

    @property
    def now_us(self) -> int:
        """Now."""
        return self.world.node.books.clock_us()

    @property
    def base_url(self) -> str:
        """Where the client reached us."""
        url = self.request.base_url
        return f"{url.scheme}://{url.netloc}"

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number of the query."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (
            text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most
        ):
            raise bad(f"{name} must be a whole number from {least} to {most}, not {text[:40]!r}")
        return int(text)

    def page(self) -> tuple[int, int]:
        """The limit and the offset of a list."""
        return self.whole("limit", PAGE, 1, PAGE_MAX), self.whole("offset", 0, 0, 2**62)


@dataclass(frozen=True, slots=True)
class Template:
    """What is put in place of the mounted route, so that requests are counted by what they ask."""

    path: str


Handler = Callable[[Call], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path in its segments (`*` stands for an id), and who may: a key with one of `scopes`.

    With no scopes it is open to all. `once`: an idempotency key counts.
    """

    method: str
    path: tuple[str, ...]
    scopes: tuple[Scope, ...]
    handler: Handler
    once: bool = False

    @property
    def template(self) -> str:
        """The path as metrics name it."""
        return "/" + "/".join("{id}" if part == "*" else part for part in self.path)

    def fits(self, segments: Sequence[str]) -> bool:
        """Whether a path is one of these."""
        return len(segments) == len(self.path) and all(
            wanted in ("*", segment) for wanted, segment in zip(self.path, segments, strict=True)
        )

    def ids(self, segments: Sequence[str]) -> list[str]:
        """The ids in such a path."""
        return [
            segment for wanted, segment in zip(self.path, segments, strict=True) if wanted == "*"
        ]


NOBODY = ApiKey("", "", (), "", "")
