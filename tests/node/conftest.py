"""A world with a hostile peer in it, which the tests of lies and of floods share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attacker import World, hostile_world

CHANNELS = 40


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Acme, gamma and an attacker with beta's keys; each lie takes a channel of its own."""
    with hostile_world(tmp_path_factory.mktemp("world"), CHANNELS) as made:
        yield made
