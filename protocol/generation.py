"""Generations: which of two nodes of one party may speak for it.

A standby that takes over begins a new generation, greater than any before it. The party signs it,
so a peer can show to the node that was superseded that its own party said so, and nobody else can.
"""

from __future__ import annotations

from tallystick.protocol.keys import Identity, verify_signature

GENERATION_MAX = 2**63 - 1


def _text(party: str, generation: int) -> bytes:
    return f"tallystick/v1 generation\n{party}\n{generation}\n".encode()


def next_generation(before: int, now_us: int) -> int:
    """The generation after `before`: the clock's milliseconds, so two that begin one do not meet
    by counting alike, and never less than one more.
    """
    return min(max(before + 1, now_us // 1000), GENERATION_MAX)


def prove_generation(identity: Identity, generation: int) -> bytes:
    """The party's signature on a generation, by its first cosigner key."""
    return identity.cosigner.sign(_text(identity.name, generation)).signature


def verify_generation(party: str, cosigner_key: bytes, generation: int, proof: bytes) -> None:
    """Return if the party said that this generation began; `ProofError` if it did not."""
    verify_signature(
        cosigner_key, _text(party, generation), proof, f"generation {generation} of {party}"
    )
