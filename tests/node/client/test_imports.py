"""The client is small: it brings nothing of the node with it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "cryptography", "duckdb", "hypercorn", "lmdb", "nacl", "numpy", "pyarrow", "starlette",
    "tallystick.node", "tallystick.protocol", "trio", "xxhash",
)  # fmt: skip


def test_it_imports_nothing_of_the_node() -> None:
    code = f"import sys, tallystick.client; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_everything_that_it_offers_is_documented() -> None:
    import tallystick.client

    for name in tallystick.client.__all__:
        found = getattr(tallystick.client, name)
        assert found.__doc__
        for member, value in vars(found).items():
            if not member.startswith("_") and callable(value):
                assert value.__doc__, f"{name}.{member}"
