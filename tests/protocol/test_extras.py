"""What others added to a bundle: judged by whom the reader trusts, and never needed."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import builders
import extra_vectors
import pytest
from extra_vectors import MAKER, NAMES, line, policy, with_lines
from stamping import Maker, Stamp

from tallystick.protocol.archive import MemberName, write_archive
from tallystick.protocol.bundle import TIMESTAMP, open_bundle
from tallystick.protocol.checks import Check
from tallystick.protocol.extras import Trust
from tallystick.protocol.keys import parse_vkey
from tallystick.protocol.notes import Note, Signature, format_note, parse_note
from tallystick.protocol.policy import format_policy, parse_policy
from tallystick.protocol.proof import format_proof, parse_proof
from tallystick.protocol.verify import verify_bundle
from tallystick.protocol.verify_proof import verify_delta_proof

VECTORS = Path(__file__).parents[1] / "vectors"
CHANNEL = builders.busy_channel()
CLOSED = CHANNEL.closed[1]
EXTRAS = extra_vectors.contents(CLOSED)
PLAIN = CLOSED.contents
CERTIFICATES = (MAKER.root_der,)


def found(
    contents: builders.BundleContents, trust: Trust | None = None, *, full: bool = False
) -> list[Check]:
    data = extra_vectors.bundle(CHANNEL, contents, full=full)
    return verify_bundle(io.BytesIO(data), trust or Trust())


def names(checks: Sequence[Check]) -> list[tuple[int, str, bool]]:
    return [(check.number, check.name, check.ok) for check in checks]


def the(name: str, checks: Sequence[Check]) -> Check:
    [check] = [check for check in checks if check.name == name]
    return check


def trusting(k: int, which: tuple[str, ...] = NAMES) -> Trust:
    return Trust(parse_policy(policy(k, which)))


def test_a_bundle_without_extras_has_the_checks_that_it_had() -> None:
    assert len(found(PLAIN)) == 7
    assert len(found(PLAIN, full=True)) == 12


def test_extras_come_after_the_checks_of_the_level() -> None:
    assert names(found(EXTRAS))[7:] == [(8, "witnesses", True), (9, "time", True)]
    assert names(found(EXTRAS, full=True))[12:] == [(13, "witnesses", True), (14, "time", True)]
    only_time = replace(PLAIN, timestamp=EXTRAS.timestamp)
    assert names(found(only_time))[7:] == [(8, "time", True)]


def test_without_trust_nobody_is_judged() -> None:
    checks = found(EXTRAS)
    assert the("witnesses", checks).detail == (
        "lines in the name of one.witness.example, two.witness.example (2 on the provider's head,"
        " 1 on the consumer's head): not judged, as no policy was given"
    )
    assert the("time", checks).detail.endswith(
        ": not judged who that is, as no certificates were given"
    )


def test_what_is_not_judged_is_told_apart_from_what_holds() -> None:
    assert [check.judged for check in found(EXTRAS)] == [True] * 7 + [False] * 2
    everything = replace(trusting(1), certificates=CERTIFICATES)
    assert all(check.judged for check in found(EXTRAS, everything))


def test_a_policy_counts_the_lines_that_hold_on_each_head() -> None:
    check = the("witnesses", found(EXTRAS, trusting(1)))
    assert check.ok
    assert check.detail == (
        "on the provider's head one (2026-12-01T00:05:00Z), two (2026-12-01T00:05:00Z);"
        " on the consumer's head one (2026-12-01T00:05:00Z);"
        " the policy asks for 1 of 3 (witnesses)"
    )
    check = the("witnesses", found(EXTRAS, trusting(2)))
    assert not check.ok
    assert check.detail == (
        "on the consumer's head one (2026-12-01T00:05:00Z);"
        " the policy asks for 2 of 3 (witnesses); missing two, three"
    )


def test_what_is_asked_for_and_is_not_there_fails() -> None:
    checks = found(PLAIN, replace(trusting(1), certificates=CERTIFICATES))
    assert names(checks)[7:] == [(8, "witnesses", False), (9, "time", False)]
    assert "no witness's line holds" in the("witnesses", checks).detail
    assert "there is no timestamp" in the("time", checks).detail


def test_a_line_that_does_not_hold_breaks_a_policy_that_knows_its_key() -> None:
    head = PLAIN.provider_head
    good = line(NAMES[0], head)
    forged = replace(good, blob=good.blob[:-1] + bytes([good.blob[-1] ^ 1]))
    contents = replace(EXTRAS, provider_head=with_lines(head, forged, line(NAMES[1], head)))
    check = the("witnesses", found(contents, trusting(1)))
    assert not check.ok
    assert "the line of one does not hold" in check.detail
    assert the("witnesses", found(contents)).ok
    assert the("witnesses", found(contents, trusting(1, NAMES[1:2]))).detail.startswith(
        "on the consumer's head no witness's line holds"
    )


def test_lines_of_strangers_count_for_nothing() -> None:
    head = PLAIN.provider_head
    strange = [Signature(f"s{n}.example", bytes([n] * 4), bytes(72)) for n in range(8)]
    contents = replace(EXTRAS, provider_head=with_lines(head, *strange))
    check = the("witnesses", found(contents, trusting(1)))
    assert not check.ok
    said = the("witnesses", found(contents)).detail
    assert "one.witness.example, s0.example, s1.example, s2.example, s3.example and 4 more" in said


def test_a_line_of_another_head_does_not_hold() -> None:
    wrong = with_lines(PLAIN.provider_head, line(NAMES[0], PLAIN.consumer_head))
    check = the("witnesses", found(replace(EXTRAS, provider_head=wrong), trusting(1)))
    assert not check.ok
    assert "does not hold" in check.detail


def test_a_time_that_no_calendar_has_is_shown_as_its_number() -> None:
    head = PLAIN.provider_head
    late = with_lines(head, line(NAMES[0], head, 2**62))
    check = the("witnesses", found(replace(EXTRAS, provider_head=late), trusting(1)))
    assert check.ok
    assert f"one (second {2**62})" in check.detail


def test_a_policy_that_names_logs_knows_the_heads_or_not() -> None:
    logs = [str(log.keyring.log_vkeys(log.role)[0]) for log in CHANNEL.logs]
    witnesses = policy(1).decode()
    both = "".join(f"log {key}\n" for key in logs) + witnesses
    one = f"log {logs[0]}\n" + witnesses
    assert the("witnesses", found(EXTRAS, Trust(parse_policy(both.encode())))).ok
    check = the("witnesses", found(EXTRAS, Trust(parse_policy(one.encode()))))
    assert not check.ok
    assert "on the consumer's head" in check.detail
    assert "does not know the key of this log" in check.detail
    assert format_policy(parse_policy(both.encode())).decode() == both


def test_the_lines_of_the_two_parties_stay_the_first_ones() -> None:
    note = parse_note(EXTRAS.provider_head)
    for order in ([2, 0, 1, 3], [1, 0, 2, 3], [0, 2, 1, 3]):
        moved = Note(note.text, tuple(note.signatures[place] for place in order))
        checks = found(replace(EXTRAS, provider_head=format_note(moved)), trusting(1))
        assert the("heads", checks).detail.startswith("a head carries two signatures")
        assert the("witnesses", checks).detail == "not reached: check 4 failed"
        assert the("time", checks).ok


def test_the_timestamp_is_of_the_note_with_both_signatures() -> None:
    text = parse_note(CLOSED.note).text.encode()
    other = CHANNEL.closed[0].note
    for stamped in (text, other, CLOSED.note + b"\n"):
        contents = replace(EXTRAS, timestamp=MAKER.response(Stamp(stamped)))
        check = the("time", found(contents))
        assert (check.ok, check.detail) == (False, "the timestamp is of something else")


def test_certificates_decide_whose_timestamp_counts() -> None:
    assert the("time", found(EXTRAS, Trust(None, CERTIFICATES))).detail.endswith(": trusted")
    for trusted in ((), (Maker(number=100).root_der,)):
        check = the("time", found(EXTRAS, Trust(None, trusted)))
        assert not check.ok
        assert "does not lead to one that is trusted" in check.detail


def test_extras_are_not_reached_if_what_they_are_of_does_not_hold() -> None:
    everything = replace(trusting(1), certificates=CERTIFICATES)
    checks = verify_bundle(io.BytesIO(b"no bundle"), everything)
    assert names(checks)[-2:] == [(13, "witnesses", False), (14, "time", False)]
    assert all(check.detail.startswith("not reached") for check in checks[1:])
    note = parse_note(CLOSED.note)
    wrong = replace(EXTRAS, checkpoint=format_note(Note(note.text, note.signatures[::-1])))
    for check in found(wrong, everything)[7:]:
        assert check.detail.startswith("not reached: check 3")


def test_the_readme_says_what_is_there_and_is_checked() -> None:
    data = extra_vectors.bundle(CHANNEL, EXTRAS)
    members = dict(open_bundle(io.BytesIO(data)).members)
    assert b"openssl ts -verify -data checkpoint.txt" in members["README.txt"]
    members["README.txt"] = open_bundle(io.BytesIO(extra_vectors.bundle(CHANNEL, PLAIN))).members[
        "README.txt"
    ]
    out = io.BytesIO()
    write_archive(out, [(MemberName(name), [content]) for name, content in members.items()])
    assert not the("statement", verify_bundle(out)).ok


@pytest.mark.parametrize("garbage", [b"", b"\x30", b"garbage" * 100, b"\x30\x80" * 4000])
def test_a_timestamp_that_is_none_is_said_and_nothing_else_is_touched(garbage: bytes) -> None:
    members = dict(open_bundle(io.BytesIO(extra_vectors.bundle(CHANNEL, EXTRAS))).members)
    members[TIMESTAMP] = garbage
    out = io.BytesIO()
    write_archive(out, [(MemberName(name), [content]) for name, content in members.items()])
    assert [check.name for check in verify_bundle(out) if not check.ok] == ["time"]


def test_a_proof_of_a_delta_may_carry_lines_of_witnesses() -> None:
    case = json.loads((VECTORS / "tlog-proof.json").read_text())
    keys = [parse_vkey(case["log_vkey"]), parse_vkey(case["cosigner_vkey"])]
    leaf, proof = bytes.fromhex(case["leaf"]), case["proof"].encode()
    assert names(verify_delta_proof(proof, leaf, keys))[-1] == (5, "signatures", True)
    parsed = parse_proof(proof)
    note = with_lines(parsed.note, line(NAMES[0], parsed.note))
    seen = format_proof(parsed.index, parsed.path, note)
    assert names(verify_delta_proof(seen, leaf, keys))[-1] == (6, "witnesses", True)
    check = verify_delta_proof(seen, leaf, keys, trusting(1))[-1]
    assert check.ok
    assert check.detail.startswith("on the head one (2026-12-01T00:05:00Z)")
    assert not verify_delta_proof(seen, leaf, keys, trusting(2))[-1].ok
    assert not verify_delta_proof(proof, leaf, keys, trusting(1))[-1].ok
    assert verify_delta_proof(seen, leaf, [], trusting(1))[-1].detail.startswith("not reached")
    assert verify_delta_proof(b"garbage", leaf, keys, trusting(1))[-1].number == 6
