"""Proofs and seals of a passthrough: what they show, and that no changed byte goes unnoticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import DAY_US, OCTOBER_US, Channel, meter
from hypothesis import given
from hypothesis import strategies as st
from reselling import (
    DOWN_METER,
    OTHER,
    RESELLER,
    SUPPLIER,
    UP_METER,
    log_keys,
    resold,
    section,
)

from tallystick.protocol.checks import Check
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.passthrough_proof import (
    FILE_BYTES_MAX,
    Section,
    build_proof,
    build_section,
    encode_passthrough,
    parse_passthrough,
    proof_digest,
    seal_of,
)
from tallystick.protocol.statement import decode_line, encode_line
from tallystick.protocol.verify_passthrough import verify_passthrough, verify_seal

WORLD = resold()
PROOF, SEAL = WORLD.proof(), WORLD.seal()


def failed(checks: list[Check]) -> dict[str, str]:
    """The checks that do not hold by themselves."""
    return {c.name: c.detail for c in checks if not c.ok and not c.detail.startswith("not reached")}


def proof_of(sections: list[Section], period: str = "2026-10") -> bytes:
    return encode_passthrough(build_proof(period, sections))


def test_a_proof_holds_and_says_who_sold_what() -> None:
    checks = verify_passthrough(PROOF, WORLD.keys)
    assert failed(checks) == {}
    said = {check.name: check.detail for check in checks}
    assert said["form"].endswith("2026-10: lines 1 sold, 2 bought")
    assert said["periods"] == (
        "2026-10 in Europe/Berlin, from 2026-09-30T22:00:00Z until 2026-10-31T23:00:00Z"
    )
    assert said["lines"] == ("sold 12.75 GPU-hour of assistant; bought 12.75 GPU-hour of p1, p2")
    assert said["parties"] == ("broker.example bought from cloud.example and sold to beta.example")
    assert said["sums"] == "12.75 GPU-hour on both sides"


def test_a_seal_shows_the_customers_lines_and_nothing_of_the_purchase() -> None:
    shown = [
        decode_line(placed.data).subject
        for one in parse_passthrough(SEAL).sections
        for placed in one.lines
    ]
    assert shown == ["assistant"]
    for secret in (SUPPLIER, "gpu-hours", WORLD.upstream.id.hex()):
        assert secret.encode() not in SEAL
        assert secret.encode() in PROOF
    assert WORLD.upstream.closed[0].note not in SEAL
    assert WORLD.customer.closed[0].note in SEAL


def test_a_seal_alone_proves_only_the_customers_own_lines() -> None:
    checks = verify_seal(SEAL, None, log_keys(WORLD.customer))
    assert list(failed(checks)) == ["sealed"]
    assert proof_digest(PROOF).hex() in failed(checks)["sealed"]
    assert "--of" in failed(checks)["sealed"]


def test_a_seal_holds_with_the_proof_behind_it() -> None:
    checks = verify_seal(SEAL, PROOF, WORLD.keys)
    assert failed(checks) == {}
    assert "12.75 GPU-hour on both sides" in checks[-1].detail
    missing = failed(verify_seal(SEAL, PROOF, log_keys(WORLD.customer)))
    assert list(missing) == ["behind"]
    assert f"{SUPPLIER}/" in missing["behind"]


def test_a_seal_is_on_one_proof_alone() -> None:
    other = proof_of([*WORLD.bought("p3"), section("sold", WORLD.other.closed[0], "assistant")])
    assert failed(verify_passthrough(other, WORLD.keys)) == {}
    assert "was given" in failed(verify_seal(SEAL, other, WORLD.keys))["sealed"]
    # The digest of the other one, on lines that it does not sell
    forged = replace(parse_passthrough(SEAL), proof=proof_digest(other))
    found = failed(verify_seal(encode_passthrough(forged), other, WORLD.keys))
    assert found["sealed"] == "the proof behind the seal sells other lines"
    # A seal behind a seal
    behind = replace(parse_passthrough(SEAL), proof=proof_digest(SEAL))
    assert "behind" in failed(verify_seal(encode_passthrough(behind), SEAL, WORLD.keys))


def test_a_proof_may_sell_to_several_and_each_has_a_seal() -> None:
    sold = [*WORLD.sold(), section("sold", WORLD.other.closed[0], "assistant")]
    proof = proof_of([*WORLD.bought("p1", "p2", "p3"), *sold])
    assert failed(verify_passthrough(proof, WORLD.keys)) == {}
    for own, foreign in ((WORLD.customer, WORLD.other), (WORLD.other, WORLD.customer)):
        seal = encode_passthrough(seal_of(proof, own.id))
        assert foreign.consumer.name.encode() not in seal
        assert failed(verify_seal(seal, proof, WORLD.keys)) == {}


@pytest.mark.parametrize(("data", "behind"), [(PROOF, None), (SEAL, PROOF)])
def test_no_changed_byte_goes_unnoticed(data: bytes, behind: bytes | None) -> None:
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        if behind is None:
            checks = verify_passthrough(bytes(changed), WORLD.keys)
        else:
            checks = verify_seal(bytes(changed), behind, WORLD.keys)
        assert failed(checks), position


def test_what_was_bought_must_be_what_was_sold() -> None:
    for subjects in (["p1"], ["p1", "p3"], ["p1", "p2", "p3"]):
        found = failed(
            verify_passthrough(proof_of([*WORLD.bought(*subjects), *WORLD.sold()]), WORLD.keys)
        )
        assert list(found) == ["sums"]
        assert "the lines sold add up to 12.75" in found["sums"]


def test_a_line_that_stands_twice_is_refused() -> None:
    (bought,) = WORLD.bought("p1")
    twice = replace(bought, lines=bought.lines * 2)
    other = replace(bought, lines=WORLD.bought("p2")[0].lines)
    for sections in ([twice], [bought, bought], [bought, other]):
        with pytest.raises(FormatError, match="twice"):
            parse_passthrough(proof_of([*sections, *WORLD.sold()]))


def test_sections_out_of_order_are_refused() -> None:
    proof = parse_passthrough(PROOF)
    with pytest.raises(FormatError, match="not in order"):
        parse_passthrough(encode_passthrough(replace(proof, sections=proof.sections[::-1])))


def test_who_sells_is_who_bought() -> None:
    stranger = Channel([DOWN_METER], parties=("mallory.example", "beta.example"))
    stranger.provider_log.delta("d0", "hours", 1275, subject="assistant")
    closed = stranger.close()
    proof = proof_of([*WORLD.bought(), section("sold", closed, "assistant")])
    found = failed(verify_passthrough(proof, [*WORLD.keys, *log_keys(stranger)]))
    assert "mallory.example sold what is shown" in found["parties"]


def test_purchases_of_two_channels_are_refused() -> None:
    second = Channel([UP_METER], parties=("nimbus.example", RESELLER))
    second.provider_log.delta("u0", "gpu-hours", 250, subject="p9")
    closed = second.close()
    sections = [*WORLD.bought("p1"), section("bought", closed, "p9"), *WORLD.sold()]
    found = failed(verify_passthrough(proof_of(sections), [*WORLD.keys, *log_keys(second)]))
    assert found["parties"] == "it is bought in 2 channels; one is allowed"


def test_other_units_and_other_times_are_refused() -> None:
    per_core = meter("hours", unit="core-hour", scale=2, source="provider")
    cores = Channel([per_core], parties=(RESELLER, OTHER))
    cores.provider_log.delta("d0", "hours", 1275, subject="assistant")
    sections = [*WORLD.bought(), section("sold", cores.close(), "assistant")]
    found = failed(verify_passthrough(proof_of(sections), [*WORLD.keys, *log_keys(cores)]))
    assert found["parties"] == "core-hour was sold, and GPU-hour was bought"


@pytest.mark.parametrize("period", ["2026-09", "2026-10-05", "2026-W41", "2026-13", "2026-10-32"])
def test_every_line_counts_in_the_period_that_is_named(period: str) -> None:
    for data in (
        proof_of([*WORLD.bought(), *WORLD.sold()], period),
        encode_passthrough(replace(parse_passthrough(SEAL), period=period)),
    ):
        checks = verify_passthrough(data, WORLD.keys)
        assert "periods" in failed(checks)


def test_days_make_up_a_month() -> None:
    up = Channel([UP_METER], "day", (SUPPLIER, RESELLER))
    down = Channel([DOWN_METER], "day", (RESELLER, OTHER))
    for day, quantity in enumerate((1_000, 250, 750)):
        up.provider_log.delta(f"u{day}", "gpu-hours", quantity, OCTOBER_US + day * DAY_US, "p1")
        up.close(OCTOBER_US + day * DAY_US)
    for day in (4, 9):
        down.provider_log.delta(f"d{day}", "hours", 100, OCTOBER_US + day * DAY_US, "p1")
        down.close(OCTOBER_US + day * DAY_US)
    sections = [section("bought", closed, "p1") for closed in up.closed]
    sections += [section("sold", closed, "p1") for closed in down.closed]
    keys = [*log_keys(up), *log_keys(down)]
    assert failed(verify_passthrough(proof_of(sections), keys)) == {}
    found = failed(verify_passthrough(proof_of(sections, "2026-10-01"), keys))
    assert found["periods"].startswith("2026-10-05, sold, is not in 2026-10-01")


def test_a_channel_that_changed_its_keys_is_verified_by_those_that_signed() -> None:
    up = Channel([UP_METER], parties=(SUPPLIER, RESELLER))
    up.provider_log.delta("u0", "gpu-hours", 12_750, subject="p1")
    before = log_keys(up)
    up.rotate("provider", "log")
    up.close()
    sections = [section("bought", up.closed[0], "p1"), *WORLD.sold()]
    proof = proof_of(sections)
    now = up.provider_log.keyring.log_vkeys("provider")
    keys = [*WORLD.keys, *before, *now]
    assert failed(verify_passthrough(proof, keys)) == {}
    old = failed(verify_passthrough(proof, [*WORLD.keys, *before]))
    assert list(old) == ["signatures"]


def test_keys_that_are_not_expected_are_named() -> None:
    found = failed(verify_passthrough(PROOF, log_keys(WORLD.customer)))
    assert list(found) == ["keys"]
    assert f"{SUPPLIER}/" in found["keys"]
    assert "tally vkey" in found["keys"]
    wrong = [replace(key, key=WORLD.keys[0].key) for key in WORLD.keys]
    assert list(failed(verify_passthrough(PROOF, wrong))) == ["signatures"]


def test_only_lines_of_the_statement_can_be_built() -> None:
    lines = WORLD.upstream.closed[0].lines
    with pytest.raises(ProofError, match="not the lines that the checkpoint of 2026-10 closes"):
        build_section("bought", lines[:1], lines[:1], WORLD.upstream.closed[0].note)
    assert encode_line(lines[0]) in [placed.data for placed in WORLD.bought()[0].lines]


def test_a_huge_file_is_refused_before_it_is_read() -> None:
    data = PROOF + b"x" * FILE_BYTES_MAX
    assert "are allowed" in failed(verify_passthrough(data, WORLD.keys))["form"]


@given(
    st.binary(max_size=200),
    st.sampled_from([PROOF, SEAL]),
    st.integers(0, 3000),
    st.integers(0, 400),
)
def test_any_bytes_get_an_answer(rest: bytes, start: bytes, at: int, cut: int) -> None:
    data = start[:at] + rest + start[at + cut :]
    if data in (PROOF, SEAL):
        return
    assert failed(verify_passthrough(data, WORLD.keys))
    assert failed(verify_seal(data, PROOF, WORLD.keys))


def test_the_bytes_read_back() -> None:
    for data in (PROOF, SEAL):
        assert encode_passthrough(parse_passthrough(data)) == data
