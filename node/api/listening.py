"""Where HTTP is served: at an address of the configuration, without TLS.

Only an address that cannot be had stops the start of a node.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress

import trio

from tallystick.node.config import Http
from tallystick.node.errors import HomeError
from tallystick.node.transport.tls import address_text, parse_address

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


async def listen(
    table: str, address: str, *, remote: bool, last: int = 0
) -> tuple[list[trio.SocketListener], str]:
    """Listen by a table of the configuration; the URL too. With port 0, on the `last` port if that
    is free.
    """
    host, port = checked_address(table, address, remote=remote)
    listeners: list[trio.SocketListener] = []
    if not port and last:
        with suppress(OSError):
            listeners = await trio.open_tcp_listeners(last, host=host)
    try:
        listeners = listeners or await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise HomeError(
            f"cannot listen for HTTP on {address}: {error.strerror or error}",
            f"Is another program there? Choose another address in config.toml: {table}.listen",
        ) from None
    bound = listeners[0].socket.getsockname()
    return listeners, f"http://{address_text(bound[0], bound[1])}"


def checked_address(table: str, address: str, *, remote: bool) -> tuple[str, int]:
    """Where to listen by a table of the configuration; `InputError` if that is no address, or one
    that may not be.
    """
    host, port = parse_address(address)
    if not remote and not _is_loopback(host):
        raise HomeError(
            f"{table}.listen = {address!r} is not on this machine, and HTTP has no TLS",
            f"Listen on 127.0.0.1; or, in a container or behind a proxy, set {table}.remote = true",
        )
    return host, port


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def hosts_of(config: Http) -> frozenset[str]:
    """The hosts that requests may name."""
    host = parse_address(config.listen)[0].lower()
    return _LOOPBACK | {name.lower() for name in config.hosts} | {host, f"[{host}]"}
