"""Words with whatever started the node: systemd's notification protocol, and nothing of systemd.

A datagram to the socket that NOTIFY_SOCKET names. Without one, nothing is said to anybody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Supervisor:
    """Who started us, if it wants to know how we are."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # An @ stands for the zero byte of an address that is in no file system.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        wanted = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if wanted else ""
        # Twice as often as must be, so that one late ping is no death.
        self.ping_seconds = int(microseconds) / 2e6 if microseconds.isdecimal() else 0.0

    def ready(self, status: str) -> None:
        """We serve."""
        self._say("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """How we are, in a line for people."""
        self._say(f"STATUS={status}")

    def alive(self) -> None:
        """We are not stuck."""
        self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """We end, as we were told to."""
        self._say("STOPPING=1", "STATUS=stopping")

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        # It must not be able to stop or delay us, whatever state it is in.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto("\n".join(lines).encode(), self._address)
