"""The nodes that the real client talks to in these tests, and a customer for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pacspace_world
import pytest
from pacspace_sdk import PacSpace

_customers = itertools.count(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pacspace_world.World]:
    """Two nodes; nobody closes a period or stops one of them."""
    with pacspace_world.made(tmp_path_factory.mktemp("pacspace")) as made:
        yield made


@pytest.fixture(scope="session")
def pac(world: pacspace_world.World) -> PacSpace:
    """The client, with a key that may do everything."""
    return world.client()


@pytest.fixture
def customer() -> str:
    """A customer of which nothing is recorded yet."""
    return f"c{next(_customers)}"
