"""What many tests share: two real nodes, two homes on disk that nobody may change, a browser."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import browsers
import homes
import nodes
import pytest
from hypothesis import settings
from playwright.sync_api import Browser

from tallystick.node.home import Home

# No property is judged by a clock: the machines are shared.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

# A shell that starts this in the background has it ignored, and so would every process of a test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nodes.Party, nodes.Party]]:
    """Two running nodes with an open channel, acme the provider and beta the consumer.

    Each test makes its own deltas and changes nothing of others.
    """
    with nodes.channel(tmp_path_factory.mktemp("pair")) as parties:
        yield parties


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Home]:
    """The provider's and the consumer's home of a busy channel; copy them to change them."""
    return homes.busy_homes(tmp_path_factory.mktemp("busy"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser, one for each test file: while it runs, its thread cannot run asyncio."""
    with browsers.launched() as browser:
        yield browser
