"""Blinding: both parties see the same, only the publisher signs, and nobody else learns a thing."""

from __future__ import annotations

import msgspec
import pytest
from gossips import NOW, digest, item_of, key_of, public_of, secret_of, veil_of
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tallystick.protocol.blinding import (
    EPOCH_SECONDS,
    SHIFT_SECONDS,
    SIZE_MAX,
    OpenedHead,
    OpenedPresence,
    Veil,
    channel_secret,
    epoch_at,
    epochs_near,
    presence_secret,
)
from tallystick.protocol.errors import FormatError, InputError, ProofError
from tallystick.protocol.items import encode_item, verify_item

ACME, BETA = "acme.example", "beta.example"
CHANNEL = digest("a channel")
VEIL = veil_of(ACME, BETA)
ROOT = digest("a root")


def _veil_at_beta() -> Veil:
    secret = secret_of(BETA, ACME)
    return Veil(secret, public_of(ACME), "provider", VEIL.epoch)


def test_both_parties_share_a_secret_and_others_do_not() -> None:
    ours = channel_secret(key_of(ACME), public_of(BETA), CHANNEL)
    assert channel_secret(key_of(BETA), public_of(ACME), CHANNEL) == ours
    others = {
        channel_secret(key_of(ACME), public_of(BETA), digest("another channel")),
        channel_secret(key_of("mallory"), public_of(BETA), CHANNEL),
        channel_secret(key_of(ACME), public_of("mallory"), CHANNEL),
        presence_secret(bytes(key_of(ACME))),
    }
    assert len(others) == 4
    assert ours not in others


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"short", bytes([1]) + bytes(31)])
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(InputError):
        channel_secret(key_of(ACME), key, CHANNEL)
    with pytest.raises(InputError):
        Veil(digest(1), key, "provider", 1)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, SIZE_MAX),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=64, max_size=64),
    st.one_of(st.just(b""), st.binary(min_size=72, max_size=72).filter(any)),
)
def test_what_the_publisher_seals_its_peer_opens(
    size: int, root: bytes, signature: bytes, cosignature: bytes
) -> None:
    item = VEIL.make(key_of(ACME), size, root, signature, cosignature)
    verify_item(item)
    assert _veil_at_beta().open(item) == OpenedHead(size, root, signature, cosignature)


@settings(deadline=None, max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_blinded_signatures_are_ed25519(seed: bytes, secret: bytes) -> None:
    signer = SigningKey(seed)
    veil = Veil(secret, bytes(signer.verify_key), "consumer", 7)
    item = veil.make(signer, 1, ROOT, bytes(64))
    verify_item(item)
    with pytest.raises(ProofError):
        verify_item(msgspec.structs.replace(item, rank=item.rank + 1))


def test_the_same_head_is_the_same_item() -> None:
    assert item_of(ACME, BETA, 5) == item_of(ACME, BETA, 5)


def test_only_its_publisher_signs_for_a_pseudonym() -> None:
    with pytest.raises(InputError, match="publisher"):
        _veil_at_beta().make(key_of(BETA), 1, ROOT, bytes(64))


def test_pseudonyms_differ_by_publisher_log_channel_and_epoch() -> None:
    veils = [
        veil_of(ACME, BETA),
        veil_of(BETA, ACME),
        veil_of(ACME, BETA, "consumer"),
        veil_of(ACME, "gamma.example"),
        veil_of(ACME, BETA, epoch=VEIL.epoch + 1),
        Veil(presence_secret(bytes(key_of(ACME))), public_of(ACME), "presence", VEIL.epoch),
    ]
    assert len({veil.pseudonym for veil in veils}) == len(veils)
    ranks = {veil.rank(1000) - veil.rank(0) for veil in veils}
    assert len(ranks) == len(veils)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, SIZE_MAX - 1), st.integers(1, 1000))
def test_ranks_grow_with_the_log(number: int, size: int, more: int) -> None:
    veil = Veil(digest(number), public_of(ACME), "provider", 1)
    larger = min(size + more, SIZE_MAX)
    assert 0 <= veil.rank(size) < veil.rank(larger) < 2**63


def test_ranks_of_small_and_large_logs_begin_anywhere_and_grow_by_any_factor() -> None:
    """What a growth by 1,000 records looks like spans several orders of magnitude."""
    starts, growths = [], []
    for number in range(100):
        veil = Veil(digest("scale", number), public_of(ACME), "provider", 1)
        starts.append(veil.rank(0))
        growths.append(veil.rank(1000) - veil.rank(0))
    assert min(starts) < 2**58 and max(starts) > 2**61
    assert max(growths) > 2**10 * min(growths)


def test_what_cannot_be_ranked_or_is_no_head_is_refused() -> None:
    for size in (-1, SIZE_MAX + 1):
        with pytest.raises(FormatError):
            VEIL.make(key_of(ACME), size, ROOT, bytes(64))
    for root, signature, cosignature in (
        (b"short", bytes(64), b""),
        (ROOT, bytes(63), b""),
        (ROOT, bytes(64), bytes([1])),
    ):
        with pytest.raises(FormatError):
            VEIL.make(key_of(ACME), 1, root, signature, cosignature)


def test_a_publisher_that_ranks_or_commits_otherwise_is_seen_by_its_peer() -> None:
    """Signed by the right key all the same: a publisher can lie about what it sealed."""
    item = VEIL.make(key_of(ACME), 10, ROOT, bytes(64))
    other = VEIL.make(key_of(ACME), 11, ROOT, bytes(64))
    for field, word in (("rank", "rank"), ("commitment", "committed"), ("sealed", "rank")):
        mixed = msgspec.structs.replace(item, **{field: getattr(other, field)})
        with pytest.raises(ProofError, match=word):
            VEIL.open(mixed)
    with pytest.raises(ProofError, match="sealed"):
        VEIL.open(msgspec.structs.replace(item, sealed=bytes(len(item.sealed))))


def test_strangers_open_nothing() -> None:
    item = item_of(ACME, BETA, 10)
    strange = Veil(secret_of("mallory", BETA), public_of(ACME), "provider", VEIL.epoch)
    with pytest.raises(ProofError):
        strange.open(item)
    with pytest.raises(ProofError):
        veil_of(ACME, BETA, epoch=VEIL.epoch + 1).open(item)


def test_epochs_begin_at_a_moment_of_their_own() -> None:
    begins = set()
    for number in range(40):
        secret = digest(number)
        epoch = epoch_at(secret, NOW)
        early, late = NOW - EPOCH_SECONDS, NOW
        while late - early > 1:
            middle = (early + late) / 2
            early, late = (early, middle) if epoch_at(secret, middle) == epoch else (middle, late)
        begin = int(late)
        assert epoch_at(secret, begin - 1) == epoch - 1
        assert 0 <= -begin % EPOCH_SECONDS <= SHIFT_SECONDS
        begins.add(begin)
    assert len(begins) > 30


def test_the_epochs_to_expect_are_the_last_and_what_is_near() -> None:
    secret = digest("a secret")
    seen = set()
    for hours in range(24 * 7):
        now = NOW + 3600 * hours
        epochs = epochs_near(secret, now)
        epoch = epoch_at(secret, now)
        assert epochs[:2] == range(epoch - 1, epoch + 1)
        assert list(epochs[2:]) in ([], [epoch + 1])
        assert epoch_at(secret, now + SHIFT_SECONDS) in epochs
        seen.add(len(epochs))
    assert seen == {2, 3}


def test_presence_says_which_process_to_every_copy_of_the_party() -> None:
    secret = presence_secret(b"s" * 32)
    veil = Veil(secret, public_of(ACME), "presence", 2970)
    item = veil.make_presence(key_of(ACME), 1_796_000_000_000, b"i" * 16, 3)
    verify_item(item)
    copy = Veil(presence_secret(b"s" * 32), public_of(ACME), "presence", 2970)
    assert copy.open_presence(item) == OpenedPresence(1_796_000_000_000, b"i" * 16, 3)
    later = veil.make_presence(key_of(ACME), 1_796_000_000_001, b"i" * 16, 3)
    assert later.rank > item.rank
    assert len(encode_item(item)) == len(encode_item(item_of(ACME, BETA, 1)))
    with pytest.raises(FormatError):
        veil.make_presence(key_of(ACME), 1, b"short", 3)
    with pytest.raises(FormatError):
        presence_secret(b"short")
