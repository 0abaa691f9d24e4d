"""Certificates: the four known ones hold, and no change of one does."""

from __future__ import annotations

import base64
import re

import certifying
import pytest
from builders import next_rotation
from disputing import ANSWER_DAYS, Quarrel
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.certificate import encode_certificate, parse_certificate
from tallystick.protocol.errors import FormatError
from tallystick.protocol.merkle import HASH_SIZE
from tallystick.protocol.records import Attested, Lapse, Reminder, encode_record
from tallystick.protocol.verify_certificate import verify_certificate

FILES = certifying.files()
NAMES = ["form", "terms", "keys", "head", "record", "lapse", "start", "end", "clock", "meaning"]


def _failing(data: bytes) -> str:
    """The first check that does not hold; empty if all do."""
    return next((check.name for check in verify_certificate(data) if not check.ok), "")


@pytest.mark.parametrize(
    ("name", "said"),
    {
        "accepted.certificate": "beta.example is deemed to have accepted it, but for disputes",
        "lapsed.certificate": "beta.example's dispute lapsed; upheld is the 10 that was conceded",
        "rotated.certificate": "the dispute is upheld for want of an answer",
        "upheld.certificate": "no answer to it was among acme.example's first 2 records",
    }.items(),
)
def test_it_holds_and_says_what_it_proves(name: str, said: str) -> None:
    data = FILES[name]
    checks = verify_certificate(data)
    assert [(check.name, check.ok) for check in checks] == [(name, True) for name in NAMES]
    assert said in checks[-1].detail
    assert encode_certificate(parse_certificate(data)) == data


@given(st.sampled_from(sorted(FILES)), st.data())
def test_no_changed_byte_goes_unnoticed(name: str, data: st.DataObject) -> None:
    file = bytearray(FILES[name])
    place = data.draw(st.integers(0, len(file) - 1))
    file[place] ^= data.draw(st.integers(1, 255))
    assert _failing(bytes(file))


def test_what_is_no_certificate_is_refused() -> None:
    for data in (b"", b"tallystick certificate v1\n", FILES["upheld.certificate"] + b"\n"):
        with pytest.raises(FormatError):
            parse_certificate(data)
        assert _failing(data) == "form"


def test_a_premature_lapse_proves_nothing() -> None:
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    channel.dispute("consumer", 30)
    log = channel.consumer_log
    index = log.state.size - 1
    start = channel.attest("consumer", 1)
    log.append(Reminder(index, channel.at("consumer", 2)))
    end = channel.attest("consumer", ANSWER_DAYS)
    log.append_unchecked(Lapse(index, start, end, 1, channel.at("consumer", 3)))
    assert _failing(certifying.certificate(channel, "consumer", index)) == "clock"


def test_an_older_key_counts_until_the_log_names_the_next() -> None:
    """The peer has a new key and says so at once; our log repeats it later."""
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    channel.dispute("consumer", 30)
    ours, theirs = channel.consumer_log, channel.provider_log
    index, at = ours.state.size - 1, channel.at("provider", 0)
    theirs.append(next_rotation(theirs.keyring, theirs.author, "provider", "cosigner", at, 0))
    channel.lapse("consumer", index, 1, 1 + ANSWER_DAYS)
    assert _failing(certifying.certificate(channel, "consumer", index)) == ""


def test_a_co_signature_of_its_own_author_proves_nothing() -> None:
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    channel.dispute("consumer", 30)
    log = channel.consumer_log
    index = log.state.size - 1
    start = channel.attest("consumer", 1)
    log.append(Reminder(index, channel.at("consumer", 2)))
    honest = channel.attest("consumer", 40)
    end = Attested(honest.size, honest.root, honest.cosignature[:8] + bytes(64))
    log.append_unchecked(Lapse(index, start, end, 1, channel.at("consumer", 3)))
    assert _failing(certifying.certificate(channel, "consumer", index)) == "end"


def test_a_head_of_another_history_proves_nothing() -> None:
    """A root that the head does not follow, though the peer signed it."""
    channel, other = Quarrel(), Quarrel()
    for one, subject in ((channel, "project-7"), (other, "project-8")):
        one.count("tokens", 100, 70)
        one.dispute("consumer", 30, subject=subject)
    log = channel.consumer_log
    index = log.state.size - 1
    start = other.attest("consumer", 1)
    log.append(Reminder(index, channel.at("consumer", 2)))
    end = channel.attest("consumer", 40)
    log.append_unchecked(Lapse(index, start, end, 1, channel.at("consumer", 3)))
    assert _failing(certifying.certificate(channel, "consumer", index)) == "start"


def test_an_answer_comes_with_its_dispute_and_nothing_else_does() -> None:
    dispute = encode_record(Quarrel().provider_log.records[0])
    lapsed, upheld = FILES["lapsed.certificate"], FILES["upheld.certificate"]
    without = re.sub(rb"dispute [^\n]+\n", b"", lapsed)
    assert _failing(without) == "record"
    row = b"dispute " + base64.b64encode(dispute) + b"\n"
    assert _failing(re.sub(rb"dispute [^\n]+\n", row, lapsed)) == "record"
    assert _failing(upheld.replace(b"record ", row + b"record ", 1)) == "record"


def test_the_parts_of_two_certificates_do_not_mix() -> None:
    a, b = (parse_certificate(FILES[f"{name}.certificate"]) for name in ("upheld", "rotated"))

    def mixed(field: str) -> bytes:
        fields = {name: getattr(a, name) for name in a.__slots__} | {field: getattr(b, field)}
        return encode_certificate(type(a)(**fields))

    for field in ("record", "lapse", "paths", "head"):
        assert _failing(mixed(field)) not in ("", "form", "terms")
    assert _failing(mixed("rotations")) == "", "a key that came later takes nothing back"
    assert len(a.record.leaf) > HASH_SIZE
