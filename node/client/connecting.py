"""Where a node is, and how a question to it goes over HTTP: what is the same for both clients."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from tallystick.client.asking import Answer, Request, events_query
from tallystick.client.errors import Unreachable

EVENTS_SILENT_SECONDS = 60.0  # the node says every fifteen that a stream lives

_EVENTS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}


class Target:
    """A node's address: a URL and a key, or a Unix socket."""

    def __init__(
        self,
        url: str | None,
        key: str | None,
        socket: str | os.PathLike[str] | None,
        channel: str | None,
        timeout: float,
    ) -> None:
        if (url is None) == (socket is None):
            raise ValueError("give the node's URL, or the path of its socket")
        if url is not None and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url!r} is not a URL, as in http://127.0.0.1:7451")
        self.url = "http://node" if url is None else url.rstrip("/")
        self.socket = None if socket is None else os.fspath(socket)
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.headers["User-Agent"] = "tallystick-client"
        self.timeout = timeout
        self._channel = channel
        # Reading the system's certificates takes long, and plain HTTP needs none.
        self.verify: ssl.SSLContext | bool = self.url.startswith("https:")

    def request(self, http: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
        """A request as it is sent, for an answer in JSON."""
        headers = {"Accept": "application/json"}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        return http.build_request(
            request.method,
            request.path,
            params=dict(request.query),
            content=request.body,
            headers=headers,
            timeout=self.timeout + request.wait_seconds,
        )

    def events_request(
        self,
        http: httpx.Client | httpx.AsyncClient,
        after: int,
        channel: str | None,
        kinds: Sequence[str],
    ) -> httpx.Request:
        """The request for a stream of events."""
        query = events_query(after, channel, kinds)
        timeout = httpx.Timeout(self.timeout, read=EVENTS_SILENT_SECONDS)
        return http.build_request(
            "GET", "/v1/events", params=query, headers=_EVENTS, timeout=timeout
        )

    def channel_of(self, channel: str | None) -> str:
        """The channel that is meant."""
        chosen = channel or self._channel
        if not chosen:
            raise ValueError("no channel: name the peer, as in Client(…, channel='beta.example')")
        return chosen

    def unreachable(self, error: httpx.TransportError) -> Unreachable:
        """The error for one of the way to the node."""
        where = self.socket or self.url
        return Unreachable(f"{where} cannot be reached: {error or type(error).__name__}")


def answer_of(response: httpx.Response) -> Answer:
    """What came back; its body has been read."""
    return Answer(response.status_code, response.headers.get("retry-after", ""), response.content)
