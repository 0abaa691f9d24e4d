"""Two real nodes for the client's tests."""

from __future__ import annotations

from collections.abc import Iterator

import emitting
import pytest


@pytest.fixture(scope="session")
def both(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[emitting.Emitter, emitting.Emitter]]:
    """The provider's and the consumer's node; tests may kill the first, and start it again."""
    with emitting.emitter(tmp_path_factory.mktemp("client")) as found:
        yield found


@pytest.fixture
def acme(both: tuple[emitting.Emitter, emitting.Emitter]) -> emitting.Emitter:
    """The provider's node."""
    return both[0]
