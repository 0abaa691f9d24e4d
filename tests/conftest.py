"""Two real nodes that many tests share: each makes its own deltas and changes nothing of others."""

from __future__ import annotations

from collections.abc import Iterator

import nodes
import pytest


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nodes.Party, nodes.Party]]:
    """Two running nodes with an open channel, acme the provider and beta the consumer."""
    with nodes.channel(tmp_path_factory.mktemp("pair")) as parties:
        yield parties
