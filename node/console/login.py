"""Logging in: by a ticket from the owner's socket, by its code, or by a bearer key in a form.

None of them is ever part of an address. `tally console` has the ticket in a file that only the
owner can read, whose form sends it; that page is another site, so what is answered to it leads on
by itself: a browser sends the cookie only to what our own page asks for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from tallystick.node.api.keys import OWNER, ApiKey
from tallystick.node.console.forms import Form, read_form
from tallystick.node.console.guard import check_origin
from tallystick.node.console.sessions import CODE_SECONDS, TICKET_SECONDS
from tallystick.node.console.visits import Desk, Page, Visit, go_to
from tallystick.protocol.errors import InputError

Handler = Callable[[Desk, Request], Awaitable[Response]]
Answer = Callable[[Request], Awaitable[Response]]

PAGE_FILE = "console.html"  # in the home: `tally console` writes the form with the ticket there
_INSIDE = re.compile(r"(?!.*\.\.)/console/(?!login|logout)[A-Za-z0-9%._~/?&=+:@-]{0,1000}")
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


def minting(desk: Desk) -> Callable[..., Awaitable[dict[str, Any]]]:
    """The method by which whoever owns the home gets a ticket."""

    async def console(typed: bool) -> dict[str, Any]:
        address = desk.world.service.http_address
        if not address:
            raise InputError(
                "the node serves no HTTP over TCP, so no browser reaches it",
                "Set http.listen in config.toml and start it again",
            )
        scheme, _, rest = address.partition("://")
        host, _, port = rest.rpartition(":")
        found = {"address": f"{scheme}://{_ANY.get(host, host)}:{port}/console/"}
        if typed:
            return found | {"code": desk.tickets.mint_code(), "seconds": CODE_SECONDS}
        return found | {"ticket": desk.tickets.mint(), "seconds": TICKET_SECONDS}

    return console


def address(request: Request) -> str:
    """Where to log in to come back to what was asked for."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if wanted == "/console/" or not _INSIDE.fullmatch(wanted):
        return "/console/login"
    return f"/console/login?{urlencode({'next': wanted})}"


async def show(desk: Desk, request: Request) -> Response:
    """The forms for a code and for a key."""
    token = request.cookies.get(desk.cookie, "")
    session = desk.sessions.find(token, used=False)
    wanted = _inside(request.query_params.get("next", ""))
    return await Visit(desk, request, session).render("login.html", next=wanted, fault="")


async def enter(desk: Desk, request: Request) -> Response:
    """Log in with whatever the form shows."""
    form = await read_form(request, 1)
    # A file has no origin; nobody else has its ticket.
    check_origin(request, also=("null",) if form.text("ticket") else ())
    caller, fault = _caller(desk, form)
    wanted = _inside(form.text("next"))
    if caller is None:
        visit = Visit(desk, request, None)
        return await visit.render("login.html", 403, next=wanted, fault=fault)
    desk.sessions.end(request.cookies.get(desk.cookie, ""))
    token = desk.sessions.begin(caller)
    if form.text("ticket"):
        (desk.world.node.home.path / PAGE_FILE).unlink(missing_ok=True)
        visit = Visit(desk, request, None)
        answer = await visit.render("entered.html", next=wanted)
    else:
        answer = go_to(wanted)
    answer.set_cookie(
        desk.cookie,
        token,
        max_age=round(desk.settings.session_minutes * 60),
        path="/console",
        secure=request.headers.get("origin", "").startswith("https:"),
        httponly=True,
        samesite="strict",
    )
    return answer


def _caller(desk: Desk, form: Form) -> tuple[ApiKey | None, str]:
    """Who logs in, or what to say."""
    if form.text("ticket"):
        good = desk.tickets.redeem(form.text("ticket"))
        return (OWNER if good else None), "This ticket was used already, or is too old."
    if form.word("code"):
        good = desk.tickets.redeem_code(form.word("code"))
        return (OWNER if good else None), "This code is not one of now: it was used, or is too old."
    key = desk.world.keys.find(form.word("key"))
    if key is None:
        return None, "No key here is like this."
    if not key.may("read"):
        return None, f"The key {key.name} has not the scope read, so it opens no page."
    return key, ""


def _inside(wanted: str) -> str:
    """Where to go after the login: only ever inside of the console."""
    return wanted if _INSIDE.fullmatch(wanted) else "/console/"


async def _leave(visit: Visit) -> Response:
    desk = visit.desk
    desk.sessions.end(visit.request.cookies.get(desk.cookie, ""))
    answer = go_to("/console/login")
    answer.delete_cookie(desk.cookie, path="/console", httponly=True, samesite="strict")
    return answer


LEAVE = Page("POST", "/logout", "read", _leave)
