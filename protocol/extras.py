"""What others added to what two parties signed: lines of witnesses, a timestamp.

Nothing of it is needed for a bundle to hold. It is judged by what the reader trusts: a policy, and
certificates. Without these it is said what is there, and that it is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol.checkpoint import format_instant
from tallystick.protocol.checks import Unjudged
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.notes import parse_note
from tallystick.protocol.policy import Judgement, Policy, asked, judge, shown
from tallystick.protocol.timestamps import check_chain, check_token, parse_response

PARTIES_LINES = 2  # the author's and its peer's; what follows below a head is of witnesses
NAMES_SHOWN = 5
_YEAR_10000_S = 253_402_300_800


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom the reader trusts: witnesses by a policy, and certificates (DER) of authorities."""

    policy: Policy | None = None
    certificates: tuple[bytes, ...] | None = None


NOTHING = Trust()


def has_lines(note: bytes) -> bool:
    """Whether a head carries more lines than those of its two parties."""
    try:
        return len(parse_note(note).signatures) > PARTIES_LINES
    except FormatError:
        return False


def check_witnesses(heads: Sequence[tuple[str, bytes]], trust: Trust) -> str:
    """What of the witnesses of these heads, by what they are called, holds; `ProofError` if the
    policy asks for more.
    """
    if trust.policy is None:
        return _unjudged(heads)
    found = []
    for name, note in heads:
        judgement = judge(trust.policy, parse_note(note))
        said = f"on {name} {_held(judgement)}"
        if not judgement.satisfied:
            raise ProofError(f"{said}; {_lacking(trust.policy, judgement)}")
        found.append(said)
    return f"{'; '.join(found)}; the policy asks for {asked(trust.policy)}"


def _unjudged(heads: Sequence[tuple[str, bytes]]) -> str:
    counts, names = [], set()
    for name, note in heads:
        lines = parse_note(note).signatures[PARTIES_LINES:]
        counts.append(f"{len(lines)} on {name}")
        names |= {line.name for line in lines}
    listed = sorted(names)[:NAMES_SHOWN]
    more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
    return Unjudged(
        f"lines in the name of {', '.join(listed)}{more} ({', '.join(counts)}): not judged, as no"
        " policy was given"
    )


def _held(judgement: Judgement) -> str:
    """The lines that hold, in words."""
    lines = [f"{shown(one.witness.name)} ({_instant(one.at_s)})" for one in judgement.held]
    return ", ".join(lines) or "no witness's line holds"


def _lacking(policy: Policy, judgement: Judgement) -> str:
    """What the policy asks for and is not there, in words."""
    parts = [f"the line of {one.name} does not hold" for one in judgement.broken]
    if not judgement.quorum_reached:
        missing = ", ".join(shown(one.name) for one in judgement.missing)
        parts.append(f"the policy asks for {asked(policy)}; missing {missing}")
    if policy.logs and judgement.log is None:
        parts.append("the policy does not know the key of this log")
    return "; ".join(parts)


def _instant(at_s: int) -> str:
    """A witness may state any time, even one that no calendar has."""
    return format_instant(at_s * 1_000_000) if at_s < _YEAR_10000_S else f"second {at_s}"


def check_time(timestamp: bytes | None, note: bytes, trust: Trust) -> str:
    """When an authority says that a note existed; `ProofError` if that does not hold."""
    if timestamp is None:
        raise ProofError("there is no timestamp in it, and one that leads to these was asked for")
    token = parse_response(timestamp)
    check_token(token, note)
    said = f"{token.said()}, certificate {token.certificate.digest()}"
    if trust.certificates is None:
        return Unjudged(f"{said}: not judged who that is, as no certificates were given")
    check_chain(timestamp, note, trust.certificates)
    return f"{said}: trusted"
