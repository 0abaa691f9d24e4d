"""The address by which other machines reach this one, when a node listens on all of them."""

from __future__ import annotations

import ipaddress
import socket

# Addresses for documentation (RFC 5737, RFC 3849): nobody has them, and nothing is sent there.
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def outward(host: str) -> str:
    """`host`; in place of "every address" the one from which this machine would dial others."""
    if not ipaddress.ip_address(host).is_unspecified:
        return host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ELSEWHERE[family], 9))  # of a datagram socket: no packet, only a route
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"
        own: str = probe.getsockname()[0]
    return own
