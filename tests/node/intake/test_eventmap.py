"""Events become drafts by a mapping, under ids that no two events share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.importing.drafts import Draft
from tallystick.node.intake.cloudevents import Event
from tallystick.node.intake.eventmap import EventConverter, event_id, load_event_mapping
from tallystick.node.intake.exact import parse_exact
from tallystick.node.intake.native import Refused
from tallystick.protocol.errors import MappingError

METERS = {
    m.name: m
    for m in (
        builders.meter("tokens", minimum=0, maximum=10**9),
        builders.meter("hours", scale=2, minimum=0, maximum=10**6),
        builders.meter("calls"),
    )
}
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "evt-1",
    "source": "/gateway",
    "type": "com.acme.inference",
    "time": "2026-01-01T00:00:00.5Z",
    "subject": "project-7",
}
AT_US = 1_767_225_600_500_000
SHORT = '[[meter]]\nmeter = "tokens"\nquantity = { column = "data.usage.tokens" }\n'
FULL = """\
time = { column = "data.at", unit = "ms" }
id = { template = "{data.request}-{tenant}" }
subject = { column = 'data.who.the\\.key' }
[[meter]]
meter = "hours"
quantity = { column = "data.items.1.h" }
[[meter]]
meter = "calls"
quantity = { value = "1" }
"""


def _converter(folder: Path, text: str) -> EventConverter:
    (folder / "map.toml").write_text(text)
    return EventConverter(load_event_mapping(folder / "map.toml"), METERS)


def _event(data: str, **changes: str) -> Event:
    return Event({**ATTRIBUTES, **changes}, parse_exact(data.encode(), "data"))


def test_what_a_mapping_leaves_out_is_the_events_own(tmp_path: Path) -> None:
    drafts = _converter(tmp_path, SHORT).drafts(_event('{"usage": {"tokens": 374}}'))
    assert drafts == [Draft("/gateway|evt-1", "tokens", "project-7", 374, AT_US)]


def test_everything_may_come_from_the_data(tmp_path: Path) -> None:
    data = '{"at": 1767225600500, "request": "r1", "items": [{}, {"h": 0.07}]'
    data += ', "who": {"the.key": "p"}}'
    assert _converter(tmp_path, FULL).drafts(_event(data, tenant="t")) == [
        Draft("r1-t", "hours", "p", 7, AT_US),
        Draft("r1-t", "calls", "p", 1, AT_US),
    ]


@pytest.mark.parametrize(
    ("data", "changes", "field", "said"),
    [
        ("{}", {}, "data.usage.tokens", "no 'usage' in data, an object"),
        ('{"usage": [1]}', {}, "data.usage.tokens", "no 'tokens' in data.usage, an array"),
        ('{"usage": {"tokens": 1.5}}', {}, "data.usage.tokens", "more decimal places"),
        ('{"usage": {"tokens": true}}', {}, "data.usage.tokens", "is true"),
        ('{"usage": {"tokens": null}}', {}, "data.usage.tokens", "is null"),
        ('{"usage": {"tokens": {}}}', {}, "data.usage.tokens", "is an object"),
        ('{"usage": {"tokens": "many"}}', {}, "data.usage.tokens", "not a decimal"),
        ('{"usage": {"tokens": -1}}', {}, "data.usage.tokens", "outside"),
        ("7", {}, "data.usage.tokens", "no 'usage' in data, a number"),
        ("null", {}, "data.usage.tokens", "no 'usage' in data, null"),
        ('{"usage": {"tokens": 1}}', {"subject": "x" * 129}, "subject", "129 bytes"),
        ('{"usage": {"tokens": 1}}', {"subject": "a\nb"}, "subject", "control"),
        ('{"usage": {"tokens": 1}}', {"id": "a\x00b"}, "id", "control"),
        ('{"usage": {"tokens": 1}}', {"time": "1969-01-01T00:00:00Z"}, "time", "1970"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, data: str, changes: dict[str, str], field: str, said: str
) -> None:
    with pytest.raises(Refused) as raised:
        _converter(tmp_path, SHORT).drafts(_event(data, **changes))
    assert raised.value.field == field
    assert said in raised.value.reason


@pytest.mark.parametrize("missing", ["time", "subject"])
def test_an_attribute_that_the_mapping_takes_must_be_there(tmp_path: Path, missing: str) -> None:
    attributes = {name: text for name, text in ATTRIBUTES.items() if name != missing}
    with pytest.raises(Refused, match=f"the event has no {missing}"):
        _converter(tmp_path, SHORT).drafts(Event(attributes, {"usage": {"tokens": 1}}))


def test_bytes_have_no_fields(tmp_path: Path) -> None:
    event = Event({**ATTRIBUTES, "datacontenttype": "text/csv"}, b"a,b")
    with pytest.raises(Refused, match="not JSON but text/csv"):
        _converter(tmp_path, SHORT).drafts(event)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHORT.replace("data.usage.tokens", "usage.tokens"), "neither an attribute"),
        (SHORT.replace("data.usage.tokens", "data..tokens"), "not a path"),
        (SHORT.replace("data.usage.tokens", "data."), "not a path"),
        (SHORT.replace("data.usage.tokens", "Tokens"), "neither an attribute"),
        ('format = "csv"\n' + SHORT, "has no format"),
        (SHORT.replace('"tokens"', '"miles"'), "'miles' that the terms do not have"),
        ("", r"no \[\[meter\]\]"),
    ],
)
def test_mistakes_in_the_mapping_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(MappingError, match=said):
        _converter(tmp_path, text)


TEXTS = st.text(st.sampled_from("a|é/ ") | st.characters(exclude_categories=["Cs", "Cc"]))
NAMES = st.tuples(TEXTS, TEXTS)
LONG = st.tuples(TEXTS, st.integers(0, 140)).map(lambda pair: pair[0] + "x" * pair[1])


@given(st.tuples(LONG, LONG), st.tuples(LONG, LONG))
def test_no_two_events_share_an_id(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (event_id(*one) == event_id(*other)) == (one == other)
    assert len(event_id(*one).encode()) <= 128


@given(TEXTS, TEXTS, TEXTS)
def test_a_bar_moves_nothing_from_source_to_id(a: str, b: str, c: str) -> None:
    if (f"{a}|{b}", c) != (a, f"{b}|{c}"):
        assert event_id(f"{a}|{b}", c) != event_id(a, f"{b}|{c}")


def test_the_ids_are_these() -> None:
    def hashed(source: str, id_: str) -> Any:
        return "ce-sha256:" + hashlib.sha256(f"{source}\0{id_}".encode()).hexdigest()

    assert event_id("/gateway", "a|b") == "/gateway|a|b"
    assert event_id("/g|w", "a") == hashed("/g|w", "a")
    assert event_id("s" * 63, "i" * 64) == "s" * 63 + "|" + "i" * 64
    assert event_id("s" * 64, "i" * 64) == hashed("s" * 64, "i" * 64)
    assert event_id("é" * 40, "é" * 24) == hashed("é" * 40, "é" * 24)
    # printf '%s\0%s' /g\|w a | sha256sum
    assert event_id("/g|w", "a").endswith(
        "7ddf1b1b63163c0a6c7dc714fdae4871c5ac5ad19a36d3b3c79ea6068f4494d1"
    )
