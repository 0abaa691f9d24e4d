"""What who started the node is told: when it serves, how it is, that it is not stuck."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import homes
import nodes
import pytest
import trio
from scrapes import monitor_of

from tallystick.node.telemetry.supervisor import Supervisor


@contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind("\0" + address[1:] if address.startswith("@") else address)
        found.settimeout(30)
        yield found


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_said_in_datagrams(tmp_path: Path, abstract: bool) -> None:
    address = f"@tallystick-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with _listening(address) as heard:
        supervisor = Supervisor({"NOTIFY_SOCKET": address})
        supervisor.ready("acme.example serves")
        supervisor.status("x")
        supervisor.alive()
        supervisor.stopping()
        said = [heard.recv(1000).decode() for _ in range(4)]
    assert said == [
        "READY=1\nSTATUS=acme.example serves",
        "STATUS=x",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=stopping",
    ]


def test_nobody_there_is_no_error(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "none")}, {"NOTIFY_SOCKET": "@none"}):
        Supervisor(environment).ready("x")


def test_one_that_does_not_listen_delays_nothing(tmp_path: Path) -> None:
    with _listening(str(tmp_path / "notify")):
        supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(5_000):  # more than any socket holds
            supervisor.alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15),
        ({"WATCHDOG_USEC": "soon"}, 0),
    ],
)
def test_how_often_it_wants_to_hear(environment: dict[str, str], seconds: float) -> None:
    assert Supervisor(environment).ping_seconds == seconds


class Heard(Supervisor):
    """A supervisor that remembers."""

    def __init__(self) -> None:
        super().__init__({})
        self.ping_seconds = 0.01
        self.said: list[str] = []
        self.heard = trio.Event()

    def _say(self, *lines: str) -> None:
        self.said += lines
        self.heard.set()


async def test_a_node_whose_store_died_says_no_more_that_it_lives(tmp_path: Path) -> None:
    heard = Heard()
    async with homes.alone(tmp_path) as side:
        monitor = monitor_of(side, supervisor=heard)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor._ping)
            with trio.fail_after(60):
                await heard.heard.wait()
            nursery.cancel_scope.cancel()
    heard.said.clear()
    with trio.move_on_after(0.2):  # twenty pings long
        await monitor._ping()
    assert heard.said == []


def test_a_node_tells_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    party = nodes.Party(tmp_path, "acme.example")
    party.tally("init", "--name", party.name)
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with _listening(address) as heard:
        party.start()
        try:
            said = heard.recv(1000).decode()
            while not said.startswith("READY=1"):
                assert said == "WATCHDOG=1"  # it is alive before it serves
                said = heard.recv(1000).decode()
            assert said.startswith("READY=1\nSTATUS=acme.example serves at 127.0.0.1:")
            assert [heard.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        finally:
            party.stop()
        rest = []
        while not rest or not rest[-1].startswith("STOPPING=1"):
            rest.append(heard.recv(1000).decode())
