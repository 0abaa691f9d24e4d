"""A link that fails inside takes nothing else with it."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
import trio

from tallystick.node.config import Quotas
from tallystick.node.link import Link
from tallystick.node.quotas import Allowance
from tallystick.protocol.framing import frame
from tallystick.protocol.messages import PROTOCOL_VERSION, Hello, Message, Presence, encode_message

PRESENCE = Presence(bytes(16), 0, False, None)


class Stream:
    """A stream that says hello, and is closed."""

    closed = False

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        said = (Hello(PROTOCOL_VERSION, "beta.example", 0, ""), PRESENCE)
        return b"".join(frame(encode_message(message)) for message in said)

    async def aclose(self) -> None:
        self.closed = True


class Owner:
    """An owner with a mistake in it."""

    def presence(self) -> Presence:
        return PRESENCE

    def introduction(self, hello: Hello) -> list[Message]:
        return [hello, self.presence()]

    async def admit(self, link: Link, presence: Presence) -> None:
        pass

    async def greeted(self, link: Link, hello: Hello) -> None:
        raise ZeroDivisionError("a mistake of ours")


async def test_a_mistake_of_ours_ends_the_link_and_is_written_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream, owner = Stream(), cast(Any, Owner())
    allowance = Allowance(Quotas(), trio.current_time())
    link = Link(owner, stream, "acme.example", "beta.example", allowance, dialled=False)
    with caplog.at_level(logging.ERROR), trio.fail_after(60):
        await link.run(Hello(PROTOCOL_VERSION, "acme.example", 0, ""), lambda: 0.0)
    assert link.ended.is_set()
    assert stream.closed
    assert "failed inside the node" in caplog.text
    assert "a mistake of ours" in caplog.text
