"""The mapping of a passthrough: what it says, and what is wrong with it in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tallystick.node.passthrough.mapping import PassthroughMap, load_passthrough_map
from tallystick.protocol.errors import MappingError, UnknownName
from tallystick.protocol.passthrough import ANY, Resale, ResaleMap

CHANNELS = {"beta.example": ["b1", "b2"], "gamma.example": ["c1"]}


def channels(name: str) -> Sequence[str]:
    if name not in CHANNELS:
        raise UnknownName(f"no channel is with {name}", "See tally channels")
    return CHANNELS[name]


def load(folder: Path, text: str | bytes) -> PassthroughMap:
    path = folder / "map.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_passthrough_map(path, channels)


def test_a_whole_mapping(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """\
own_use = ["lab"]
others = "same-names"
meters = { "gpu-hours" = "hours" }
[[resale]]
upstream = ["pool-a", "pool-b"]
downstream = { channel = "gamma.example", subject = "assistant" }
[[resale]]
upstream = "*"
downstream = [{ channel = "beta.example" }, { channel = "gamma.example" }]
""",
    )
    sold = (("b1", ANY), ("b2", ANY), ("c1", ANY))
    resales = (Resale(("pool-a", "pool-b"), (("c1", "assistant"),)), Resale(("*",), sold))
    assert found == PassthroughMap(ResaleMap(resales, ("lab",), True), {"gpu-hours": "hours"})


def test_an_empty_mapping_maps_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "") == PassthroughMap(ResaleMap((), (), False), None)


SOLD = 'downstream = { channel = "gamma.example", subject = "x" }\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("own-use = []", "there is no key own-use. Did you mean own_use?"),
        ("own_use = [1]", "own_use is neither text in quotes nor a list of such"),
        ("others = 'all'", "others 'all' is not one of unmapped, same-names"),
        ("meters = 'tokens'", "meters is no table"),
        ("meters = {}", "meters is no table"),
        ("meters = { a = 1 }", "a downstream meter is not text"),
        ("meters = { a = 'x', b = 'x' }", "meters: 'x' is named twice"),
        ("resale = 1", "Begin each with [[resale]]"),
        ("[[resale]]\nupstream = 'a'", "resale 1: downstream is missing"),
        ("[[resale]]\n" + SOLD, "resale 1: upstream is missing"),
        ("[[resale]]\nupstream = []\n" + SOLD, "resale 1: upstream is neither text"),
        ("[[resale]]\nupstream = ''\n" + SOLD, "resale 1: upstream is neither text"),
        ("[[resale]]\nupstream = 'a'\nprice = 2\n" + SOLD, "there is no key resale 1: price"),
        ("[[resale]]\nupstream = 'a'\ndownstream = 'b'", "downstream names no channel"),
        ("[[resale]]\nupstream = 'a'\ndownstream = []", "List own use under own_use"),
        ("[[resale]]\nupstream = 'a'\ndownstream = { channel = 'beta.example', subject = 1 }",
         "downstream.subject is not text"),
        ("[[resale]]\nupstream = 'a'\ndownstream = { channel = 'delta.example' }",
         "resale 1: no channel is with delta.example. See tally channels"),
        (f"[[resale]]\nupstream = 'a'\n{SOLD}[[resale]]\nupstream = 'b'\n{SOLD}",
         "downstream: 'c1/x' is named twice"),
        (f"own_use = ['a']\n[[resale]]\nupstream = 'a'\n{SOLD}",
         "own_use and upstream: 'a' is named twice"),
        ("resale = [1]", "resale 1 is not a table"),
        ("a = ", "not valid TOML"),
        (b"own_use = ['\xff']", "is not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_sentence(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(MappingError) as raised:
        load(tmp_path, text)
    assert said in str(raised.value)
    assert "map.toml" in str(raised.value)


def test_a_mapping_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="cannot be read"):
        load_passthrough_map(tmp_path / "none.toml", channels)


def test_a_large_mapping_takes_no_time_to_speak_of(tmp_path: Path) -> None:
    subjects = ", ".join(f"'s{n}'" for n in range(50_000))
    found = load(tmp_path, f"own_use = [{subjects}]")
    assert len(found.resales.own_use) == 50_000
