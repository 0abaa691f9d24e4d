"""The witness's door (c2sp.org/tlog-witness): a listener of its own with two paths and no more.

Nobody shows a key here; what counts is the log's signature. So every bound is on what a stranger
can do: requests a second by address, their size and time, and heads a minute by log.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import aclosing

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tallystick.node.api.connections import Connections, place_of
from tallystick.node.api.listening import listen
from tallystick.node.books import Books
from tallystick.node.errors import StoreError
from tallystick.node.quotas import Buckets, source_of
from tallystick.node.witnessing.known import KnownLogs
from tallystick.node.witnessing.ledger import Ledger
from tallystick.protocol.witness import (
    REQUEST_BYTES_MAX,
    TEXT_TYPE,
    Refused,
    parse_request,
)

CONNECTIONS_MAX = 256
BODY_SECONDS = 10.0
BURST_SECONDS = 10

_MONITORED = re.compile(r"/([0-9a-f]{64})/checkpoint")
_log = logging.getLogger("tallystick.witness")


class WitnessDoor:
    """Serves one node's witness. `address` is where, once it does; empty if it is not one."""

    def __init__(self, books: Books) -> None:
        self._books = books
        settings = books.config.witness
        self.settings = settings
        self.ledger: Ledger | None = None
        self.address = ""
        self.answers: Counter[int] = Counter()  # by status
        per_second = settings.requests_per_second
        self._by_address = Buckets(per_second, per_second * BURST_SECONDS)
        self._by_log = Buckets(settings.heads_per_minute / 60, settings.heads_per_minute)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, if the configuration says so; started once the door is open."""
        books, settings = self._books, self.settings
        if not settings.serve:
            task_status.started()
            return
        known = KnownLogs(books, settings)
        name, key = books.identity.name, books.identity.witness
        self.ledger = Ledger(books.store, name, key, known, settings.origins, books.clock_us)
        last = books.last_port("witness-port")
        listeners, self.address = await listen(
            "witness", settings.listen, remote=settings.remote, last=last
        )
        connections = Connections(self, CONNECTIONS_MAX)
        port = str(listeners[0].socket.getsockname()[1]).encode()
        # Not waited for: the store's task may begin later than this one, or never.
        books.store.submit_along(lambda txn: txn.put("meta", b"witness-port", port))
        said = {"address": self.address, "vkey": str(self.ledger.vkey)}
        _log.info("a witness for others", extra=said)
        if self.ledger.doubtful:
            _log.error("this witness co-signs nothing: its store was restored; see tally witness")
        task_status.started()
        await connections.serve(listeners)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        with place_of(scope).work(known=False):
            try:
                answer = await self._answer(request)
            except Refused as refused:
                answer = Response(refused.body, refused.status, media_type=None)
                answer.headers["Content-Type"] = refused.content_type
                if refused.status == 429:
                    answer.headers["Retry-After"] = "1"
            except ClientDisconnect:
                return
            except StoreError as error:
                _log.error("a head could not be witnessed", extra={"reason": error.message})
                answer = Response(b"this witness cannot use its disk\n", 503, media_type=TEXT_TYPE)
            self.answers[answer.status_code] += 1
            answer.headers["X-Content-Type-Options"] = "nosniff"
            await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        address = request.client.host if request.client else ""
        if not self._by_address.try_take(source_of(address), trio.current_time()):
            raise Refused(429, "too many requests from this address")
        if request.url.path == "/add-checkpoint":
            if request.method != "POST":
                raise Refused(405, "this takes a POST")
            return await self._add(request)
        monitored = _MONITORED.fullmatch(request.url.path)
        if monitored is None:
            raise Refused(404, "there is nothing here but /add-checkpoint")
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, "this takes a GET")
        assert self.ledger is not None
        row = self.ledger.find(bytes.fromhex(monitored[1]))
        if row is None:
            raise Refused(404, "no head of this log was co-signed here")
        return Response(row.checkpoint, media_type=TEXT_TYPE)

    async def _add(self, request: Request) -> Response:
        body = b""
        with trio.move_on_after(BODY_SECONDS) as reading:
            async with aclosing(request.stream()) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > REQUEST_BYTES_MAX:
                        raise Refused(413, f"a request has at most {REQUEST_BYTES_MAX} bytes")
        if reading.cancelled_caught:
            raise Refused(408, "the request did not come to its end")
        asked = parse_request(body)
        assert self.ledger is not None
        line = await self.ledger.add(asked, self._allow_head)
        return Response(line.line().encode(), media_type=TEXT_TYPE)

    def _allow_head(self, origin: str) -> None:
        if not self._by_log.try_take(origin, trio.current_time()):
            raise Refused(429, "too many heads of this log")
