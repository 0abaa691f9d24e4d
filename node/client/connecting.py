"""Where a node is, and what is sent with every request."""

from __future__ import annotations

import os
import ssl
from urllib.parse import urlsplit

import httpx

from tallystick.client.errors import Unreachable

EVENTS_SILENT_SECONDS = 60.0  # the node says every fifteen that a stream lives


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
        self.events_timeout = httpx.Timeout(timeout, read=EVENTS_SILENT_SECONDS)
        # Reading the system's certificates takes long, and plain HTTP needs none.
        self.verify: ssl.SSLContext | bool = self.url.startswith("https:")

    def headers_of(self, body: bytes | None) -> dict[str, str]:
        """The headers of one request and its answer: JSON."""
        accept = {"Accept": "application/json"}
        return accept if body is None else {**accept, "Content-Type": "application/json"}

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
