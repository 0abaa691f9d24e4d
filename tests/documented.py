"""What docs/events.md says of each kind of event: the fields of its data."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "events.md"


@cache
def documented() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """The fields that each kind always has, and those that it may have beside them."""
    text = PAGE.read_text()
    match = re.search(r"\*dispute\* stands for (.*?)\n\n", text, re.S)
    assert match is not None
    dispute = frozenset(re.findall(r"`([a-z_]+)`", match[1]))
    found = {}
    for kind, data in re.findall(r"^\| `([a-z]+\.[a-z]+)` \|.*\| ([^|]*) \|$", text, re.M):
        always, _, beside = re.sub(r"\([^)]*\)", "", data).partition(";")
        fields = frozenset(re.findall(r"`([A-Za-z_]+)`", always))
        if "*dispute*" in always:
            fields |= dispute
        found[kind] = (fields, frozenset(re.findall(r"`([A-Za-z_]+)`", beside)))
    return found


def check_data(kind: str, data: dict[str, object]) -> None:
    """An event's data has the fields that the page says, and no others."""
    always, beside = documented()[kind]
    assert always <= set(data) <= always | beside, (kind, sorted(data))
