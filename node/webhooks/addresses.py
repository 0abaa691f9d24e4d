"""Where webhooks and calls go: which URLs an endpoint may have, and which addresses its name may
stand for when it is dialled.

Only who may write in the home adds endpoints, and a billing system mostly stands in a private
network, so private addresses are fine. Refused is what is never a receiver and often a trap: the
metadata services of clouds and whatever else is on the link only. The address that was checked is
the one that is dialled, so a name cannot change its mind between.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore
import trio

from tallystick.node.errors import EndpointError

URL_LENGTH_MAX = 2048
# Metadata services that are not on link-local addresses.
METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)

READ_BYTES_MAX = 65536  # of one answer, headers and all

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: str, *, allow_http: bool) -> None:
    """Refuse (`EndpointError`) a URL that nothing is sent to."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise EndpointError(f"{url[:80]!r} is not a URL: {error}") from None
    if len(url) > URL_LENGTH_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise EndpointError(
            f"{url[:80]!r} is too long, or has characters that a URL writes with %", ""
        )
    if parts.scheme not in ("http", "https") or not host:
        raise EndpointError(f"{url!r} is not an address of the web", "Write https://HOST/PATH")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise EndpointError(
            "the URL has a user name, a password or a fragment",
            "The signature shows who sends; put a token into the path if the receiver wants one",
        )
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise EndpointError(
            f"{host} would get events unencrypted",
            "Use https, or set webhooks.allow_http = true in config.toml",
        )


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine, by its name: addresses are checked when dialled."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_address(address: Address, *, loopback_only: bool) -> None:
    """Refuse (`EndpointError`) an address that no webhook is sent to."""
    # What is reached inside of an IPv6 address counts.
    inside = (getattr(address, name, None) for name in ("ipv4_mapped", "sixtofour"))
    inner: Address = next((one for one in inside if one is not None), address)
    if (
        inner.is_link_local
        or inner.is_multicast
        or inner.is_unspecified
        or (inner.is_reserved and not inner.is_loopback)
        or inner in METADATA
    ):
        raise EndpointError(f"nothing is sent to {address}: no receiver has such an address")
    if loopback_only and not inner.is_loopback:
        raise EndpointError(f"{address} would get events unencrypted", "Use https")


class TooMuch(httpcore.ReadError):
    """An answer is longer than anybody reads."""


class BoundedStream(httpcore.AsyncNetworkStream):
    """A connection on which an answer may have so many bytes and no more."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._left = READ_BYTES_MAX

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read some bytes; `TooMuch` once there were too many since something was written."""
        if self._left <= 0:
            raise TooMuch("the answer is too long")
        data = await self._inner.read(min(max_bytes, self._left), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write; what is read from now on is another answer."""
        self._left = READ_BYTES_MAX
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Speak TLS; the bytes inside it count."""
        return BoundedStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows of itself."""
        return self._inner.get_extra_info(info)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connections for webhooks: names are resolved here, and every address is checked."""

    def __init__(self, *, loopback_only: bool) -> None:
        self._inner = httpcore.TrioBackend()
        self._loopback_only = loopback_only

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a name that answers."""
        try:
            # As bytes: a name that no domain can have is not found then, and no error of its own.
            name = host.encode("ascii")
            found = await trio.socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} is not found: {error.strerror}") from None
        addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
        for address in addresses:
            plain = ipaddress.ip_address(address.partition("%")[0])
            check_address(plain, loopback_only=self._loopback_only)
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses:
            try:
                stream = await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
                return BoundedStream(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise EndpointError(f"nothing is sent to the socket {path}")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await trio.sleep(seconds)
