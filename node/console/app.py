"""The console's application: which pages there are, who may, and what becomes of errors.

Every page but the login needs a session; what changes something also needs the scope `admin` and a
form of ours. Whatever goes wrong becomes a page in plain words with a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from tallystick.node.api import problems
from tallystick.node.api.app import World
from tallystick.node.api.problems import Refused
from tallystick.node.console import (
    channels,
    comparisons,
    deltas,
    disputes,
    evidence,
    login,
    overview,
    pairing,
    periods,
)
from tallystick.node.console.comparing import Comparisons
from tallystick.node.console.forms import read_form
from tallystick.node.console.guard import Hardened, check_origin
from tallystick.node.console.remembering import Remembering
from tallystick.node.console.rendering import Assets, environment
from tallystick.node.console.sessions import Sessions, Tickets
from tallystick.node.console.visits import Desk, Page, Visit

_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}


class Console:
    """The console of a running node: `routes` for TCP, `methods` for the owner's socket."""

    def __init__(self, world: World) -> None:
        settings = world.node.books.config.console
        self._assets = Assets()
        clock = trio.current_time
        self._desk = Desk(
            world,
            settings,
            environment(self._assets),
            Sessions(world.keys, settings, clock),
            Tickets(clock),
            Comparisons(world.node.home, settings),
            Remembering(world.reader, clock),
        )
        self.methods = {"console": login.minting(self._desk)}
        self.routes: Sequence[BaseRoute] = (
            Route("/console", _enter),
            Mount("/console", Hardened(self._app())),
        )

    def visitor(self, scope: Scope) -> str | None:
        """A name for whoever a request's session is of, if it has one that lives."""
        token = Request(scope).cookies.get(self._desk.cookie, "")
        session = self._desk.sessions.find(token, used=False) if token else None
        return None if session is None else f"console {session.caller.id}"

    def _app(self) -> Starlette:
        modules = (overview, channels, periods, comparisons, deltas, disputes, pairing, evidence)
        pages = [page for module in modules for page in module.PAGES]
        routes = [
            Route("/static/{name}", self._static),
            Route("/login", self._open_to_all(login.show), methods=["GET"]),
            Route("/login", self._open_to_all(login.enter), methods=["POST"]),
            *(Route(page.path, self._guarded(page), methods=[page.method]) for page in pages),
            Route("/logout", self._guarded(login.LEAVE), methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: self._fault})
        app.router.default = self._nothing_here
        app.router.redirect_slashes = False
        return app

    async def _static(self, request: Request) -> Response:
        found = self._assets.files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there is no such file")
        return Response(found[0], headers=_KEPT, media_type=found[1])

    def _open_to_all(self, handler: login.Handler) -> login.Answer:
        """A handler whose errors become pages."""

        async def handle(request: Request) -> Response:
            try:
                return await handler(self._desk, request)
            except Exception as error:  # noqa: BLE001 - one request must not take the node with it
                return await self._fault(request, error)

        return handle

    def _guarded(self, page: Page) -> login.Answer:
        return self._open_to_all(partial(self._handle, page))

    async def _handle(self, page: Page, desk: Desk, request: Request) -> Response:
        """A page for those alone who may; what it began it ends, though its caller goes away."""
        live = "seen" in request.query_params  # asked by the script, not by a person
        token = request.cookies.get(desk.cookie, "")
        session = desk.sessions.find(token, used=not live)
        if session is None:
            if request.method in ("GET", "HEAD") and not live:
                return RedirectResponse(login.address(request), 303)
            raise Refused(401, "nobody is logged in here, or not any more", "Log in again")
        if not session.caller.may(page.scope):
            raise Refused(
                403,
                f"you are logged in with the key {session.caller.name}, which has not the scope"
                f" {page.scope}",
                f"Log in with another one; make it with: tally keys add NAME --scope {page.scope}",
            )
        visit = Visit(desk, request, session)
        if request.method != "POST":
            return await page.handler(visit)
        check_origin(request)
        visit.form = await read_form(request, desk.settings.upload_mebibytes)
        if not session.has_form_token(visit.form.text("token")):
            raise Refused(403, "this form is not of your session", "Go back and load the page anew")
        return await self._to_the_end(page, visit)

    async def _to_the_end(self, page: Page, visit: Visit) -> Response:
        answers: list[Response | Exception] = []
        done = trio.Event()

        async def work() -> None:
            try:
                answers.append(await page.handler(visit))
            except Exception as error:  # noqa: BLE001 - raised again for the one who asked
                answers.append(error)
            finally:
                done.set()

        self._desk.world.nursery.start_soon(work)
        await done.wait()
        if not answers:
            raise Refused(503, "the node is stopping", "Start it again: tally run")
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _fault(self, request: Request, error: Exception) -> Response:
        """The page of an error."""
        status, _, detail, advice = problems.inside(error)
        session = self._desk.sessions.find(request.cookies.get(self._desk.cookie, ""), used=False)
        answer = await Visit(self._desk, request, session).render(
            "error.html",
            status,
            title=HTTPStatus(status).phrase,
            detail=detail,
            advice=advice,
        )
        if request.method == "POST":
            # The form may not have been read; then nothing can follow it on this connection.
            answer.headers["Connection"] = "close"
        return answer

    async def _nothing_here(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        answer = await self._fault(request, HTTPException(404, "there is no such page"))
        await answer(scope, receive, send)


async def _enter(request: Request) -> Response:
    return RedirectResponse("/console/", 307)
