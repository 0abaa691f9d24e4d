"""Terms: every mistake names its line and key; what a peer's record may not say is refused."""

from __future__ import annotations

import builders
import msgspec
import pytest

from tallystick.protocol.errors import InvalidRecord, TermsError
from tallystick.protocol.records import (
    INT64_MAX,
    PartyKeys,
    Terms,
    Tolerance,
    decode_record,
    encode_record,
)
from tallystick.protocol.terms import channel_id, check_terms, describe_terms, parse_terms

SOURCE = """\
provider = "acme.example"
consumer = "beta.example"
[period]
calendar = "month"
time_zone = "Europe/Berlin"
[clocks]
grace = "3d"
[meters.output-tokens]
unit = "token"
source = "both"
range = ["-5", "1000"]
match = { window = "500ms" }
tolerance = { relative = "0.5%", absolute = "1000", base = "provider", least = 1000 }
[meters.gpu-hours]
unit = "GPU-hour"
scale = 2
aggregate = "max"
source = "consumer"
"""
PARTIES = {
    name: PartyKeys(name, who.log_key, who.cosigner_key)
    for name in ("acme.example", "beta.example")
    for who in (builders.identity(name),)
}
NONCE = bytes(16)


def _parse(source: str | bytes) -> Terms:
    return parse_terms(source.encode() if isinstance(source, str) else source, PARTIES, NONCE)


def test_what_the_file_says_is_what_the_record_says() -> None:
    terms = _parse(SOURCE)
    check_terms(terms)
    assert decode_record(encode_record(terms)) == terms
    assert (terms.grace_seconds, terms.dispute_seconds) == (3 * 86400, 15 * 86400)
    hours, tokens = terms.meters
    assert (hours.name, hours.scale, hours.payable, hours.maximum) == (
        "gpu-hours", 2, "consumer", INT64_MAX,
    )  # fmt: skip
    assert tokens.tolerance == Tolerance(5000, 1000, "provider", 1000)
    assert (tokens.minimum, tokens.maximum, tokens.match_window_us) == (-5, 1000, 500_000)
    assert _parse("\ufeff" + SOURCE.replace("\n", "\r\n")) == terms


def test_the_nonce_makes_another_channel() -> None:
    other = parse_terms(SOURCE.encode(), PARTIES, b"x" * 16)
    assert channel_id(other) != channel_id(_parse(SOURCE))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"month"', '"moon"', "line 4, period.calendar: 'moon' is not one of"),
        ("Europe/Berlin", "Europe/Berln", "line 5, period.time_zone: there is no time zone"),
        ('"3d"', '"3 days"', "line 7, clocks.grace: '3 days' is not a duration"),
        ('"3d"', "3", "line 7, clocks.grace: expected text"),
        ("unit = ", "unti = ", "Did you mean unit?"),
        ('unit = "token"\n', "", "line 8, meters.output-tokens.unit: this key is missing"),
        ('source = "both"', 'source = "all"', "line 10, meters.output-tokens.source"),
        ('["-5", "1000"]', '["5", "1"]', "line 11, meters.output-tokens.range: the lower bound"),
        ('["-5", "1000"]', '["5"]', "expected two decimals"),
        ("500ms", "soon", "line 12, meters.output-tokens.match.window"),
        ('"0.5%"', '"half"', "line 13, meters.output-tokens.tolerance.relative"),
        ('"0.5%"', '"100.5%"', "is not a percentage"),
        ('absolute = "1000"', "absolute = 10.5", 'Quote it: "10.5"'),
        ('absolute = "1000"', 'absolute = "1,000"', "thousands separator"),
        ("scale = 2", "scale = 19", "line 16, meters.gpu-hours.scale"),
        ("scale = 2", "scale = true", "line 16, meters.gpu-hours.scale"),
        ('"max"', '"median"', "line 17, meters.gpu-hours.aggregate"),
        ('source = "consumer"', 'source = "consumer"\npayable = "provider"', "only the consumer"),
        ("meters.gpu-hours", "meters.GPU", "line 14, meters.GPU"),
        ('"beta.example"', '"acme.example"', "line 2, consumer: provider and consumer are"),
        ('"beta.example"', '"gamma.example"', "line 2, consumer: 'gamma.example' is neither"),
        ("[period]", "[perod]", "line 3, perod: there is no such key. Did you mean period?"),
        ("[clocks]", "[clocks", "line 6"),
    ],
)
def test_a_mistake_names_its_line_and_key(old: str, new: str, said: str) -> None:
    assert old in SOURCE
    with pytest.raises(TermsError) as raised:
        _parse(SOURCE.replace(old, new, 1))
    assert said in str(raised.value)


def test_latin_1_names_the_line() -> None:
    with pytest.raises(TermsError, match="line 9: byte 0xe9 is not UTF-8"):
        _parse(SOURCE.replace('"token"', '"t\u00e9ken"').encode("latin-1"))


@pytest.mark.parametrize("source", ["", "x = 1", "[meters]", 'meters = "m"', "\0"])
def test_hardly_a_file_at_all(source: str) -> None:
    with pytest.raises(TermsError):
        _parse(source)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"time_zone": "Mars/Olympus"}, "no time zone"),
        ({"meters": (builders.meter("b"), builders.meter("a"))}, "not sorted"),
        ({"meters": (builders.meter("a"), builders.meter("a"))}, "there twice"),
        ({"meters": (builders.meter("a", minimum=2, maximum=1),)}, "range is empty"),
        ({"meters": (builders.meter("a", source="consumer"),)}, "does not record it"),
        ({"meters": (builders.meter("a", unit="\x1b[31m"),)}, "control character"),
        ({"provider": PartyKeys("ACME", bytes(32), b"x" * 32)}, "like a domain"),
        ({"provider": PartyKeys("acme.example", bytes(32), bytes(32))}, "two jobs"),
    ],
)
def test_what_no_file_could_say(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRecord) as raised:
        check_terms(msgspec.structs.replace(_parse(SOURCE), **changes))
    assert said in str(raised.value)


def test_the_description_fits_a_terminal_and_names_what_matters() -> None:
    lines = describe_terms(_parse(SOURCE))
    assert max(map(len, lines)) <= 78
    text = "\n".join(lines)
    for word in ("acme.example provides", "Europe/Berlin", "Both record it", "up to 0.5000% of"):
        assert word in text
