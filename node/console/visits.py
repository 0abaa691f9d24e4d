"""What a page works with: the desk, which all pages share, and the visit, which is one request."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tallystick.node import queries, worklist
from tallystick.node.api.app import World
from tallystick.node.api.keys import Scope
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.config import ConsoleSettings
from tallystick.node.console.comparing import Comparisons
from tallystick.node.console.forms import Form
from tallystick.node.console.remembering import Remembering
from tallystick.node.console.sessions import Session, Sessions, Tickets
from tallystick.protocol.errors import InputError


@dataclass(frozen=True, slots=True)
class Desk:
    """What all pages share."""

    world: World
    settings: ConsoleSettings
    templates: Environment
    sessions: Sessions
    tickets: Tickets
    comparisons: Comparisons
    remembering: Remembering

    @property
    def cookie(self) -> str:
        """The session cookie's name: cookies know no ports, so two nodes here need two names."""
        return f"tally-{self.world.node.identity.log_key.hex()[:12]}"


@dataclass(slots=True)
class Visit:
    """One request, by whom, and the form that it brought."""

    desk: Desk
    request: Request
    session: Session | None
    form: Form = field(default_factory=Form)

    @property
    def world(self) -> World:
        """What the routes of the interface work with, too."""
        return self.desk.world

    def may(self, scope: Scope) -> bool:
        """Whether the visitor may do what needs a scope."""
        return self.session is not None and self.session.caller.may(scope)

    def asked(self, name: str) -> str:
        """A parameter of the address; empty if it is not there."""
        return self.request.query_params.get(name, "")

    def channel(self) -> tuple[Channel, Closer]:
        """The channel in the page's path."""
        books = self.world.node.books
        return books.channels[books.select(self.request.path_params["channel"])]

    async def ask(self, key: bytes, question: Callable[[Channel, Closer], Any]) -> Any:
        """The answer to a question that takes as long as a channel has lines."""
        return await self.world.reader.ask_lines(key, question)

    async def ask_again(
        self, key: bytes, name: str, question: Callable[[Channel, Closer], Any]
    ) -> Any:
        """The same for what is asked again and again, by a name that says what is asked."""
        opened = self.world.node.books.channels[key]
        patient = "seen" in self.request.query_params
        return await self.desk.remembering.ask(opened, name, question, patient=patient)

    def page_number(self) -> int:
        """Which page of a long list was asked for, from 1."""
        text = self.asked("page") or "1"
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 10**6):
            raise InputError(f"there is no page {text[:20]!r}")
        return int(text[:9])

    async def render(self, template: str, status: int = 200, /, **values: Any) -> Response:
        """A page."""
        waiting = await self._waiting() if self.session else 0
        return HTMLResponse(self._text(template, values | {"waiting": waiting}), status)

    async def render_live(self, template: str, /, **values: Any) -> Response:
        """A page, or only its part that lives, `_NAME`: nothing if the script has it already."""
        text = self._text(f"_{template}", values)
        mark = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen = self.request.query_params.get("seen")
        if seen == mark:
            return Response(status_code=204)
        if seen is not None:
            return HTMLResponse(text, headers={"X-Seen": mark})
        return await self.render(template, live=Markup(text), seen=mark, **values)

    def _text(self, template: str, values: dict[str, Any]) -> str:
        node = self.world.node
        return self.desk.templates.get_template(template).render(
            me=node.identity.name,
            path=self.request.url.path,
            session=self.session,
            token=self.session.form_token if self.session else "",
            admin=self.may("admin"),
            **values,
        )

    async def waits(self, key: bytes) -> dict[str, Any]:
        """What waits in a channel: its disputes, and its closed periods."""
        return await self.ask_again(  # type: ignore[no-any-return]
            key, "waits", lambda channel, _: worklist.worklist([channel], settled=False)
        )

    async def _waiting(self) -> int:
        """How many disputes wait for us, for the head of each page."""
        books = self.world.node.books
        listed = [await self.waits(key) for key in list(books.channels)]
        return sum(d["waits_for"] == books.identity.name for one in listed for d in one["disputes"])

    async def status(self) -> dict[str, Any]:
        """How the node and its channels stand."""
        live = await self.world.service.live()
        return queries.status(self.world.node.books, live)


def go_to(address: str) -> Response:
    """Lead a browser on after a form, so that loading the page anew sends nothing again."""
    return RedirectResponse(address, 303)


def attachment(data: bytes, name: str, media_type: str) -> Response:
    """A file to keep."""
    return Response(data, headers=file_headers(name), media_type=media_type)


def file_headers(name: str) -> dict[str, str]:
    """What makes an answer a file of a name, whatever letters that has."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-+@") else "_" for c in name)
    return {"Content-Disposition": f'attachment; filename="{safe.lstrip(".") or "_"}"'}


@dataclass(frozen=True, slots=True)
class Page:
    """A page or an action: its path below /console, and the scope that it needs."""

    method: str
    path: str
    scope: Scope
    handler: Callable[[Visit], Awaitable[Response]]
