"""Bundles with what others added: lines of witnesses below the heads, and a timestamp.

`extras.json` has whom a reader may trust, and what the checks say then and otherwise.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import builders
from stamping import Maker, Stamp

from tallystick.protocol.bundle import BundleContents, write_bundle
from tallystick.protocol.checks import Check
from tallystick.protocol.extras import Trust
from tallystick.protocol.heads import cosign_head, parse_head
from tallystick.protocol.keys import ED25519_COSIGNATURE, Vkey
from tallystick.protocol.notes import Note, Signature, format_note, parse_note
from tallystick.protocol.policy import Witness, format_policy, k_of_n, parse_policy
from tallystick.protocol.timestamps import parse_trusted
from tallystick.protocol.verify import verify_bundle

AT_S = 1_796_083_500  # 2026-12-01, five minutes after midnight
NAMES = ("one.witness.example", "two.witness.example", "three.witness.example")
MAKER = Maker()


def witness(name: str) -> Vkey:
    """A witness's verifier key."""
    return Vkey(name, ED25519_COSIGNATURE, bytes(builders.identity(name).cosigner.verify_key))


def line(name: str, note: bytes, at_s: int = AT_S) -> Signature:
    """A witness's line below a head."""
    head, key = parse_head(parse_note(note).text), builders.identity(name).cosigner
    return Signature(name, witness(name).id, cosign_head(head, key, at_s))


def with_lines(note: bytes, *lines: Signature) -> bytes:
    """A head's note with lines behind those of its parties."""
    parsed = parse_note(note)
    ordered = sorted(lines, key=lambda one: (one.name, one.key_id))
    return format_note(Note(parsed.text, parsed.signatures + tuple(ordered)))


def contents(closed: builders.Closed) -> BundleContents:
    """A closed period with a timestamp; two witnesses know the provider's head, one the other."""
    plain = closed.contents
    provider, consumer = plain.provider_head, plain.consumer_head
    return replace(
        plain,
        provider_head=with_lines(provider, *(line(name, provider) for name in NAMES[:2])),
        consumer_head=with_lines(consumer, line(NAMES[0], consumer)),
        timestamp=MAKER.response(Stamp(closed.note)),
    )


def bundle(channel: builders.Channel, made: BundleContents, *, full: bool = False) -> bytes:
    """The bundle of these contents."""
    out = io.BytesIO()
    write_bundle(out, made, *[log.source() if full else None for log in channel.logs])
    return out.getvalue()


def policy(k: int, names: tuple[str, ...] = NAMES) -> bytes:
    """The policy that `k` of these witnesses are needed."""
    return format_policy(
        k_of_n([Witness(name.partition(".")[0], witness(name)) for name in names], k)
    )


def documents(data: bytes) -> dict[str, Any]:
    """Whom to trust, and what the checks say."""
    trusts = {
        "nobody": Trust(),
        "one": Trust(parse_policy(policy(1)), tuple(parse_trusted(MAKER.root_pem))),
        "two": Trust(parse_policy(policy(2))),
        "another authority": Trust(None, (Maker(number=100).root_der,)),
    }
    return {
        "certificates": MAKER.root_pem.decode(),
        "policies": {"one": policy(1).decode(), "two": policy(2).decode()},
        "checks": {
            name: [_plain(check) for check in verify_bundle(io.BytesIO(data), trust)[7:]]
            for name, trust in trusts.items()
        },
    }


def _plain(check: Check) -> dict[str, Any]:
    return {
        "number": check.number,
        "name": check.name,
        "ok": check.ok,
    } | ({"detail": check.detail} if check.ok else {})
