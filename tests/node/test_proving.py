"""Bundles out of a real store: what the node closed is what an auditor derives."""

from __future__ import annotations

import io

from tallystick.node.books import Books
from tallystick.node.home import Home
from tallystick.node.proving import bundle
from tallystick.protocol.verify import verify_bundle


def test_full_bundles_of_both_sides_verify_and_are_the_same(busy: tuple[Home, Home]) -> None:
    made: dict[str, set[bytes]] = {}
    for home in busy:
        books = Books.open(home, read_only=True)
        [(channel, closer)] = books.channels.values()
        for row in closer.rows:
            out = io.BytesIO()
            bundle(channel, row, out, full=True)
            out.seek(0)
            assert [check for check in verify_bundle(out) if not check.ok] == []
            made.setdefault(row.period, set()).add(out.getvalue())
        books.close()
    assert {period: len(bundles) for period, bundles in made.items()} == {
        "2026-10": 1,
        "2026-11": 1,
    }
