"""Targets for what a reseller reads and shows: mappings of subjects, proofs and seals."""

from __future__ import annotations

import hashlib
from functools import cache

import reselling

from fuzzing.contract import attempt, scratch_file
from tallystick.node.passthrough.mapping import load_passthrough_map
from tallystick.protocol.checks import Check
from tallystick.protocol.errors import FormatError, MappingError
from tallystick.protocol.passthrough import Amount, ResoldMeter, compare_sides
from tallystick.protocol.passthrough_proof import (
    FILE_BYTES_MAX,
    encode_passthrough,
    parse_passthrough,
)
from tallystick.protocol.verify_passthrough import verify_passthrough, verify_seal

MAP = """\
own_use = ["lab"]
others = "same-names"
meters = { "gpu-hours" = "hours" }
[[resale]]
upstream = ["a", "b"]
downstream = { channel = "beta.example", subject = "x" }
[[resale]]
upstream = "*"
downstream = [{ channel = "beta.example" }, { channel = "gamma.example", subject = "*" }]
"""
_METER = ResoldMeter("m", "m", "token", 2)


@cache
def world() -> reselling.Resold:
    """The reseller whose parties signed what the vectors show."""
    return reselling.resold()


@cache
def files() -> tuple[bytes, bytes]:
    """The proof and the seal on it."""
    return world().proof(), world().seal()


def resale_maps(data: bytes) -> None:
    """A mapping: what differs adds up under whatever it says."""
    path = scratch_file("resale.toml", data)
    found = attempt(MappingError, load_passthrough_map, path, lambda name: (name,))
    if found is None:
        return
    bought = [Amount("up", "m", s, "now", True, 7, -1, 0, 1, 2) for s in ("a", "lab", "*", "é")]
    sold = [
        Amount(channel, "m", s, of, of == "now", 5, 0, -2, 1, 0)
        for channel in ("beta.example", "gamma.example")
        for s in ("a", "x", "*")
        for of in ("now", "before")
    ]
    groups = compare_sides("now", found.resales, [_METER], bought, sold)
    assert sum(group.bought for group in groups) == 6 * len(bought)
    assert sum(group.sold for group in groups) == 3 * 100 * 6
    for group in groups:
        assert sum(group.classes.values()) == group.difference


def _shown(checks: list[Check]) -> bool:
    """Whether all hold; all eight are told, in words that any terminal can show."""
    assert [check.number for check in checks] == list(range(1, 9))
    for check in checks:
        check.detail.encode()
    return all(check.ok for check in checks)


def resales(data: bytes) -> None:
    """A proof or a seal: none holds but of sections that the parties signed, whose lines are equal
    on both sides. A zero byte parts a seal from what is behind it.
    """
    file, _, behind = data.partition(b"\0")
    parsed = attempt(FormatError, parse_passthrough, file)
    if parsed is not None:
        assert encode_passthrough(parsed) == file
        assert len(file) <= FILE_BYTES_MAX
    proof, _ = files()
    genuine = {line.data for one in parse_passthrough(proof).sections for line in one.lines}
    if _shown(verify_passthrough(file, world().keys)):
        assert parsed is not None
        assert {line.data for one in parsed.sections for line in one.lines} == genuine
    if _shown(verify_seal(file, behind or proof, world().keys)):
        assert parsed is not None
        assert parsed.proof == hashlib.sha256(behind or proof).digest()
