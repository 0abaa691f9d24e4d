"""Homes that are long enough to be sealed, which the tests of audits share."""

from __future__ import annotations

import pytest
import sealed

from tallystick.node.home import Home


@pytest.fixture(scope="session")
def long_homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Home]:
    """The provider's and the consumer's home, nothing sealed; copy them to change them."""
    return sealed.long_homes(tmp_path_factory.mktemp("long"))
