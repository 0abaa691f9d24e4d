"""Trust policies (c2sp.org/tlog-policy): which logs and witnesses count, and how many of them.

A policy is a file of lines: `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME K|all|any
MEMBER…` and one `quorum NAME|none`. Names have no meaning outside of the file. `judge` says of a
note which witnesses' lines hold and whether they are enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol.errors import FormatError, InputError, ProofError
from tallystick.protocol.keys import ED25519_NOTE, Vkey
from tallystick.protocol.notes import Note, Signature
from tallystick.protocol.signers import parse_checkpoint_head, parse_signer, verify_line

POLICY_BYTES_MAX = 512 * 1024
ENTRIES_MAX = 256  # logs, witnesses and groups, each
DEPTH_MAX = 64  # of groups in groups

_FORBIDDEN = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_NUMBER = re.compile("[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log that a policy trusts; the key's name is the log's origin."""

    vkey: Vkey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness, the name by which the policy calls it, and where checkpoints are sent to it."""

    name: str
    vkey: Vkey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and other groups of which `threshold` must have co-signed."""

    name: str
    threshold: int
    members: tuple[Witness | Group, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a note must carry; `quorum` is None where no witness is needed."""

    logs: tuple[KnownLog, ...]
    witnesses: tuple[Witness, ...]
    quorum: Witness | Group | None


@dataclass(frozen=True, slots=True)
class HeldLine:
    """A line that holds, and the time that it states (POSIX seconds)."""

    witness: Witness
    line: Signature
    at_s: int


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A line that names a known key and does not hold, which makes the note malformed."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a policy says of a note. `log` is its origin, if the policy knows that log's key and
    its line holds; `satisfied` says whether all that the policy asks for is there.
    """

    log: str | None
    held: tuple[HeldLine, ...]
    missing: tuple[Witness, ...]
    broken: tuple[BrokenLine, ...]
    quorum_reached: bool
    satisfied: bool


def parse_policy(data: bytes) -> Policy:
    """The policy of a file; `InputError` names the line that is wrong."""
    if len(data) > POLICY_BYTES_MAX:
        raise InputError(
            f"the policy has {len(data)} bytes; {POLICY_BYTES_MAX} are allowed",
            "Is it the right file?",
        )
    reader = _Reader()
    for number, row in enumerate(data.split(b"\n"), 1):
        forbidden = _FORBIDDEN.search(row)
        if forbidden is not None:
            raise InputError(
                f"line {number} of the policy holds the byte 0x{forbidden[0][0]:02x}",
                "Lines end with a newline alone; between words are spaces and tabs",
            )
        # Names are compared as the bytes that they are, valid UTF-8 or not.
        words = row.decode("utf-8", "surrogateescape").strip(" \t")
        if words and not words.startswith("#"):
            reader.take(number, re.split("[ \t]+", words))
    return reader.policy()


def k_of_n(witnesses: Sequence[Witness], k: int) -> Policy:
    """The policy that `k` of these witnesses must co-sign; `InputError` if it cannot be."""
    if not 0 <= k <= len(witnesses):
        raise InputError(
            f"{k} witnesses are required and {len(witnesses)} are named",
            "Name more witnesses, or require fewer",
        )
    _check_duplicates([witness.vkey for witness in witnesses])
    return Policy((), tuple(witnesses), Group("witnesses", k, tuple(witnesses)) if k else None)


def format_policy(policy: Policy) -> bytes:
    """The policy as a file that `parse_policy` reads as the same policy."""
    rows = [_row("log", log.vkey, log.url) for log in policy.logs]
    rows += [_row("witness", one.name, one.vkey, one.url) for one in policy.witnesses]
    if isinstance(policy.quorum, Group):
        _write_group(policy.quorum, rows)
    rows.append(_row("quorum", policy.quorum.name if policy.quorum else "none"))
    return "".join(rows).encode("utf-8", "surrogateescape")


def judge(policy: Policy, note: Note) -> Judgement:
    """What the policy says of a signed checkpoint; lines of keys that it does not name are passed
    over.
    """
    held: list[HeldLine] = []
    broken: list[BrokenLine] = []
    for witness in policy.witnesses:
        lines = note.lines_of(witness.vkey)
        try:
            times = [verify_line(witness.vkey, note.text, line.blob) for line in lines]
        except ProofError as error:
            broken.append(BrokenLine(shown(witness.name), error.message))
            continue
        if lines:
            held.append(HeldLine(witness, lines[0], times[0]))
    log = _log_of(policy, note, broken)
    there = {id(line.witness) for line in held}
    reached = policy.quorum is None or _witnessed(policy.quorum, there)
    missing = tuple(one for one in policy.witnesses if id(one) not in there)
    known = log is not None or not policy.logs
    return Judgement(
        log, tuple(held), missing, tuple(broken), reached, reached and known and not broken
    )


def shown(name: str) -> str:
    """A policy's name for people: bytes that are not UTF-8 are written as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def asked(policy: Policy) -> str:
    """What the policy asks for, in words."""
    quorum = policy.quorum
    if quorum is None:
        return "no witness"
    if isinstance(quorum, Witness):
        return shown(quorum.name)
    return f"{quorum.threshold} of {len(quorum.members)} ({shown(quorum.name)})"


def _witnessed(member: Witness | Group, there: set[int]) -> bool:
    if isinstance(member, Witness):
        return id(member) in there
    return sum(_witnessed(one, there) for one in member.members) >= member.threshold


def _log_of(policy: Policy, note: Note, broken: list[BrokenLine]) -> str | None:
    if not policy.logs:
        return None
    try:
        origin = parse_checkpoint_head(note.text).origin
    except FormatError as error:
        broken.append(BrokenLine("checkpoint", error.message))
        return None
    for log in policy.logs:
        lines = note.lines_of(log.vkey) if log.vkey.name == origin else []
        try:
            for line in lines:
                verify_line(log.vkey, note.text, line.blob)
        except ProofError as error:
            broken.append(BrokenLine(log.vkey.name, error.message))
            continue
        if lines:
            return origin
    return None


def _check_duplicates(vkeys: Sequence[Vkey]) -> None:
    # The same key under another name would count twice.
    for at, vkey in enumerate(vkeys):
        if any(vkey.key == earlier.key for earlier in vkeys[:at]):
            raise InputError(f"the key of {vkey.name} is named twice", "Name each key once")


def _row(*words: object) -> str:
    return " ".join(str(word) for word in words if str(word)) + "\n"


def _write_group(group: Group, rows: list[str]) -> None:
    for member in group.members:
        if isinstance(member, Group):
            _write_group(member, rows)
    rows.append(_row("group", group.name, group.threshold, *(one.name for one in group.members)))


class _Reader:
    """A policy line by line."""

    def __init__(self) -> None:
        self._logs: list[KnownLog] = []
        self._witnesses: list[Witness] = []
        self._groups: list[Group] = []
        self._named: dict[str, Witness | Group] = {}
        self._members: set[str] = set()
        self._depths: dict[str, int] = {}
        self._quorum: list[Witness | Group | None] = []

    def take(self, number: int, words: list[str]) -> None:
        """Take a line that is neither empty nor a comment."""
        keyword, given = words[0], words[1:]
        takers = {
            "log": (1, 2, self._log),
            "witness": (2, 3, self._witness),
            "group": (3, 2 + 2 * ENTRIES_MAX, self._group),
            "quorum": (1, 1, self._take_quorum),
        }
        try:
            if keyword not in takers:
                raise InputError(
                    f"{shown(keyword[:80])!r} is no keyword", "It is log, witness, group or quorum"
                )
            least, most, taker = takers[keyword]
            if not least <= len(given) <= most:
                wanted = str(least) if least == most else f"{least} to {most}"
                raise InputError(f"after {keyword} come {len(given)} words, not {wanted}")
            taker(given)
        except (InputError, FormatError) as error:
            raise InputError(
                f"line {number} of the policy: {error.message}", error.advice
            ) from None

    def policy(self) -> Policy:
        """The policy, when all lines are read."""
        if not self._quorum:
            raise InputError(
                "the policy has no quorum line", "Add one: quorum NAME, or quorum none"
            )
        return Policy(tuple(self._logs), tuple(self._witnesses), self._quorum[0])

    def _log(self, given: list[str]) -> None:
        self._logs.append(KnownLog(parse_signer(given[0]), given[1] if given[1:] else ""))
        _check_entries(self._logs, "logs")
        _check_duplicates([log.vkey for log in self._logs])

    def _witness(self, given: list[str]) -> None:
        witness = Witness(given[0], parse_signer(given[1]), given[2] if given[2:] else "")
        if witness.vkey.kind == ED25519_NOTE:
            raise InputError(
                f"the key of {shown(witness.name)} is a log's, of type 0x01",
                "A witness has a key of type 0x04 or 0x06",
            )
        self._name(witness)
        self._witnesses.append(witness)
        _check_entries(self._witnesses, "witnesses")
        _check_duplicates([one.vkey for one in self._witnesses])

    def _group(self, given: list[str]) -> None:
        name, threshold, members = given[0], given[1], given[2:]
        found = [self._find(member) for member in members]
        for member in members:
            if member in self._members:
                raise InputError(f"{shown(member)} is a member already", "Each counts only once")
            self._members.add(member)
        if threshold in ("all", "any"):
            k = len(found) if threshold == "all" else 1
        elif _NUMBER.fullmatch(threshold) and int(threshold) <= len(found):
            k = int(threshold)
        else:
            raise InputError(
                f"{shown(threshold[:80])!r} of {len(found)} members cannot be asked for",
                f"Write all, any, or a number from 1 to {len(found)}",
            )
        group = Group(name, k, tuple(found))
        self._name(group)
        self._groups.append(group)
        _check_entries(self._groups, "groups")
        depths = [self._depths.get(member, 0) for member in members]
        self._depths[name] = max(depths) + 1
        if self._depths[name] > DEPTH_MAX:
            raise InputError(f"groups are nested more than {DEPTH_MAX} deep")

    def _take_quorum(self, given: list[str]) -> None:
        if self._quorum:
            raise InputError("there is a quorum line already", "A policy has one")
        self._quorum.append(None if given[0] == "none" else self._find(given[0]))

    def _find(self, name: str) -> Witness | Group:
        if name not in self._named:
            raise InputError(
                f"{shown(name[:80])!r} is not named on a line before",
                "Witnesses and groups come before the lines that use them",
            )
        return self._named[name]

    def _name(self, one: Witness | Group) -> None:
        if one.name == "none" or one.name in self._named:
            raise InputError(f"the name {shown(one.name[:80])!r} is taken", "Use another one")
        self._named[one.name] = one


def _check_entries(entries: Sequence[object], what: str) -> None:
    if len(entries) > ENTRIES_MAX:
        raise InputError(f"there are more than {ENTRIES_MAX} {what}")
