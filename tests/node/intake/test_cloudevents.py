"""CloudEvents in all three modes: what others write is read, what is no event is named."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.intake.cloudevents import (
    EVENTS_MAX,
    Event,
    is_binary,
    read_batch,
    read_binary,
    read_structured,
)
from tallystick.node.intake.native import Refused
from tallystick.protocol.errors import InputError

ATTRIBUTES = {
    "specversion": "1.0",
    "id": "evt-1",
    "source": "https://acme.example/gateway",
    "type": "com.acme.inference",
    "time": "2026-01-01T00:00:00Z",
    "subject": "project-7",
}
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


def _written(**changes: Any) -> CloudEvent:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return CloudEvent({**ATTRIBUTES, "time": time, **changes}, {"tokens": 374})


@given(TEXTS, TEXTS, TEXTS)
def test_what_the_official_package_writes_is_read(id_: str, source: str, subject: str) -> None:
    event = _written(id=id_, source=source, subject=subject, tenant="t1")
    expected = Event(
        {**ATTRIBUTES, "id": id_, "source": source, "subject": subject, "tenant": "t1"},
        {"tokens": 374},
    )
    structured = http.to_structured_event(event)
    assert read_structured(structured.body) == expected
    assert read_batch(b"[" + structured.body + b"," + structured.body + b"]") == [expected] * 2
    binary = http.to_binary_event(event)
    assert is_binary(binary.headers)
    assert read_binary(binary.headers.items(), binary.body) == expected


def test_numbers_stay_what_was_written() -> None:
    text = json.dumps(ATTRIBUTES)[:-1] + ', "data": {"a": 0.10, "b": 1e3, "c": 9007199254740993}}'
    assert read_structured(text.encode()).data == {"a": "0.10", "b": "1e3", "c": 9007199254740993}


def test_data_in_base64_and_of_other_types() -> None:
    packed = base64.b64encode(b'{"n": 1.10}').decode()
    attributes = {**ATTRIBUTES, "data_base64": packed}
    assert read_structured(json.dumps(attributes).encode()).data == {"n": "1.10"}
    attributes["datacontenttype"] = "application/octet-stream"
    assert read_structured(json.dumps(attributes).encode()).data == b'{"n": 1.10}'
    headers = [(f"ce-{name}", value) for name, value in ATTRIBUTES.items()]
    assert read_binary(headers, b"").data is None
    plain = [*headers, ("Content-Type", "text/plain")]
    assert read_binary(plain, b"374").data == b"374"
    vendor = [*headers, ("Content-Type", "application/vnd.acme+json; charset=utf-8")]
    assert read_binary(vendor, b"[1.0]").data == ["1.0"]


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"id": None}, "id", "has no id"),  # never one made up: it would not be the same twice
        ({"source": ""}, "source", "has no source"),
        ({"type": None}, "type", "has no type"),
        ({"specversion": None}, "specversion", "has no specversion"),
        ({"specversion": "0.3"}, "specversion", "must be '1.0'"),
        ({"id": 7}, "id", "is a number; it must be text"),
        ({"subject": ""}, "subject", "must not be empty"),
        ({"time": "2026-01-01T00:00:00"}, "time", "with its offset"),
        ({"time": "tomorrow Z"}, "time", "ISO 8601"),
        ({"time": "2026-02-30T00:00:00Z"}, "time", "not a time"),
        ({"Tenant": "x"}, "Tenant", "lowercase"),
        ({"tenant": {"a": 1}}, "tenant", "is an object"),
        ({"tenant": 1.5}, "tenant", "is a number"),
        ({"data": 1, "data_base64": "MQ=="}, "data_base64", "both"),
        ({"data_base64": "no base64"}, "data_base64", "not Base64"),
        ({"data_base64": 7}, "data_base64", "not Base64"),
        ({"data_base64": "bm8="}, "data", "not JSON"),
        ({"datacontenttype": ["a"]}, "datacontenttype", "an array"),
    ],
)
def test_what_is_no_event_is_named(changes: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Refused) as raised:
        read_structured(json.dumps({**ATTRIBUTES, **changes}).encode())
    assert raised.value.field == field
    assert said in raised.value.reason


def test_whole_numbers_and_truths_are_attributes_too() -> None:
    event = read_structured(json.dumps({**ATTRIBUTES, "attempt": 2, "paid": True}).encode())
    assert (event.attributes["attempt"], event.attributes["paid"]) == ("2", "true")


@pytest.mark.parametrize(
    ("header", "value", "field", "said"),
    [
        ("ce-subject", "%ff", "subject", "percent-encoded UTF-8"),
        ("ce-subject", "\xe9", "subject", "percent-encoded UTF-8"),
        ("Ce-Id", "other", "id", "twice"),
        ("ce-data", "x", "data", "reserved"),
        ("ce-", "x", "", "at least 1"),
        ("content-type", "application/json", "data", "not JSON"),
    ],
)
def test_bad_headers_are_named(header: str, value: str, field: str, said: str) -> None:
    given = {k: v for k, v in ATTRIBUTES.items() if k != header.removeprefix("ce-")}
    headers = [(f"ce-{name}", text) for name, text in given.items()] + [(header, value)]
    with pytest.raises(Refused) as raised:
        read_binary(headers, b"{" if header == "content-type" else b"{}")
    assert raised.value.field == field
    assert said in raised.value.reason


def test_what_is_meant_as_an_event_is_told_by_its_own_headers() -> None:
    assert is_binary(["Content-Type", "CE-Type"])
    assert is_binary(["ce-id"])
    assert not is_binary(["ce-something", "id", "type", "content-type", "source"])


def test_quoted_header_values() -> None:
    headers = [(f"ce-{n}", t) for n, t in ATTRIBUTES.items() if n != "subject"]
    event = read_binary([*headers, ("ce-subject", r'"a \"b\" %C3%A9"')], b"{}")
    assert event.attributes["subject"] == 'a "b" é'


def test_a_batch_names_its_bad_items_and_keeps_the_rest() -> None:
    good = json.dumps(ATTRIBUTES).encode()
    found = read_batch(b"[" + good + b', 7, {"id": 1}, ' + good + b"]")
    assert [isinstance(event, Event) for event in found] == [True, False, False, True]
    assert "a JSON object; this is a number" in str(found[1])


@pytest.mark.parametrize("body", [b"", b"{}", b"7", b"[", b"\xff", b"[" * 100_000])
def test_what_is_no_batch_is_refused_whole(body: bytes) -> None:
    with pytest.raises(InputError):
        read_batch(body)


def test_a_batch_has_a_limit() -> None:
    assert len(read_batch(b"[" + b"1," * (EVENTS_MAX - 1) + b"1]")) == EVENTS_MAX
    with pytest.raises(InputError, match="8192 are allowed"):
        read_batch(b"[" + b"1," * EVENTS_MAX + b"1]")


JSONS = st.sampled_from([None, True, 0, -1, 1.5, "", "x", [], [1], {}, {"a": 1}, "MQ==", 10**30])


@given(st.dictionaries(st.sampled_from([*ATTRIBUTES, "data", "data_base64", "x"]), JSONS))
def test_any_object_is_an_event_or_refused(changes: dict[str, Any]) -> None:
    try:
        event = read_structured(json.dumps({**ATTRIBUTES, **changes}).encode())
    except (Refused, InputError):
        return
    assert event.attributes["id"] == changes.get("id", "evt-1")


@given(st.binary(max_size=100))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises((Refused, InputError)):
        read_structured(garbage)
