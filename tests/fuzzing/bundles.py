"""Targets for bundles: any bytes, and bundles that are wrong but properly signed."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import lru_cache

import builders
import msgspec

from tallystick.protocol import bundle as b
from tallystick.protocol.archive import MemberName, write_archive
from tallystick.protocol.checkpoint import checkpoint_note, meter_totals, sign_checkpoint
from tallystick.protocol.errors import TallyError
from tallystick.protocol.heads import Head
from tallystick.protocol.keys import origin
from tallystick.protocol.log import LogState, append
from tallystick.protocol.records import Terms, decode_batch, encode_record
from tallystick.protocol.rendering import statement_csv, statement_json, verdict_json
from tallystick.protocol.statement import Line, statement_root
from tallystick.protocol.terms import channel_id
from tallystick.protocol.verdict import (
    MeterVerdict,
    Verdict,
    declared_of,
    make_verdict,
    verdict_digest,
)
from tallystick.protocol.verify import verify_bundle

CHANNEL = builders.busy_channel()
CLOSED = CHANNEL.closed[1]
_FIELDS = Line.__struct_fields__
_TEXTS = ("time_zone", "calendar")


def bundles(data: bytes) -> None:
    """Any file: verifying says what is wrong and never fails, and no byte is left unlooked at."""
    checks = verify_bundle(io.BytesIO(data))
    assert checks
    for check in checks:
        check.detail.encode()
    if checks[0].ok:
        opened = b.open_bundle(io.BytesIO(data))
        members = [(MemberName(name), [data]) for name, data in opened.members.items()]
        for name, log in zip(b.FULL, opened.logs or (), strict=bool(opened.logs)):
            members.append((MemberName(name, large=True), list(log.batches())))
        out = io.BytesIO()
        write_archive(out, members)
        assert out.getvalue() == data


def signed_bundles(data: bytes) -> None:
    """What two parties could sign together to make a verifier fall over."""
    bundle = signed_bundle(data)
    for check in verify_bundle(io.BytesIO(bundle)) if bundle else ():
        check.detail.encode()


def signed_bundle(data: bytes) -> bytes:
    """A bundle in which `data` changes one thing before both sign; empty if that is too little.

    The first byte says what and whether the bundle is full, the next which, the rest is put there.
    """
    if len(data) < 3:
        return b""
    what, which, rest = data[0] % 6, data[1], data[2:]
    text = rest.decode("utf-8", "replace")
    lines, terms, extra, changes = list(CLOSED.lines), CHANNEL.terms, b"", {}
    if what == 0:
        at = which % len(lines)
        name = _FIELDS[rest[0] % len(_FIELDS)]
        value: object = rest[1:].decode("utf-8", "replace")
        if name == "deltas":
            value = int.from_bytes(rest[1:9], "big")
        lines[at] = msgspec.structs.replace(lines[at], **{name: value})
        if which & 0x80:
            lines.sort(key=lambda line: line.sort_key)
    elif what == 1:
        changes = {"totals": tuple(text.split("\n"))}
    elif what == 2:
        extra = rest
    elif what == 5:
        changes = _changed_verdict(which, text)
    elif what == 3:
        terms = _changed_terms(which, text)
    else:
        name = ("period", "time_zone", "provider", "consumer")[which % 4]
        changes = {name: text}
    return _assemble(terms, lines, extra, changes, full=what == 2 or data[0] >= 0x80)


def _changed_verdict(which: int, text: str) -> dict[str, object]:
    rows = list(CLOSED.verdict.meters)
    place, name = which // 8 % len(rows), MeterVerdict.__struct_fields__[which % 7]
    rows[place] = msgspec.structs.replace(rows[place], **{name: text})
    return {"stated": Verdict(CLOSED.verdict.period, tuple(rows))}


def _changed_terms(which: int, text: str) -> Terms:
    terms = CHANNEL.terms
    if which % 4 < 2:
        return msgspec.structs.replace(terms, **{_TEXTS[which % 4]: text})
    place = which // 4 % len(terms.meters)
    meters = list(terms.meters)
    name = ("unit", "name")[which % 2]
    meters[place] = msgspec.structs.replace(meters[place], **{name: text})
    return msgspec.structs.replace(terms, meters=tuple(meters))


@lru_cache(maxsize=64)
def _logs(terms: Terms, extra: bytes) -> tuple[bytes, list[list[bytes]], list[Head], list[bytes]]:
    """The channel's id, and of each log its batches, its head and the head's note."""
    id_ = channel_id(terms)
    sources, heads, notes = [], [], []
    for log in CHANNEL.logs:
        batches = [*log.batches, *([extra] if extra and log is CHANNEL.provider_log else [])]
        state = LogState.empty(id_)
        for batch in batches:
            try:
                parts = decode_batch(batch)[1]
            except TallyError:
                break
            state = append(state, parts, state.facts).state
        head = Head(origin(log.author.name, id_), state.size, state.frontier.root())
        sources.append(batches)
        heads.append(head)
        notes.append(
            builders.cosigned(
                head, log.author.signer("log", 0), log.peer.name, log.peer.signer("cosigner", 0)
            )
        )
    return id_, sources, heads, notes


def _verdict(terms: Terms, lines: list[Line]) -> Verdict:
    """The verdict on these lines; if there cannot be any, the honest one."""
    try:
        totals = declared_of(terms, CLOSED.verdict)
        return make_verdict(terms, CLOSED.checkpoint.period, lines, *totals)
    except TallyError:
        return CLOSED.verdict


def _assemble(
    terms: Terms, lines: list[Line], extra: bytes, changes: dict[str, object], full: bool
) -> bytes:
    """A bundle of these, signed by both."""
    id_, sources, heads, notes = _logs(terms, extra)
    try:
        totals = meter_totals(terms, lines)
    except (TallyError, ValueError):
        totals = CLOSED.checkpoint.totals
    checkpoint = replace(
        CLOSED.checkpoint,
        channel_id=id_,
        terms_digest=id_,
        heads=tuple(
            replace(old, size=head.size, root=head.root)
            for old, head in zip(CLOSED.checkpoint.heads, heads, strict=True)
        ),
        lines=len(lines),
        statement_root=statement_root(lines),
        totals=totals,
    )
    verdict = changes.pop("stated", None) or _verdict(terms, lines)
    assert isinstance(verdict, Verdict)
    checkpoint = replace(checkpoint, verdict=verdict_digest(verdict), **changes)
    parties = (CHANNEL.provider, CHANNEL.consumer)
    note = checkpoint_note(
        checkpoint, [sign_checkpoint(checkpoint, who.name, who.log) for who in parties]
    )
    small = {
        b.README: b.readme_text((b.VERDICT,)),
        b.CHECKPOINT: note,
        b.TERMS: encode_record(terms),
        b.TERMS_TEXT: b.terms_text(terms),
        b.PROVIDER_HEAD: notes[0],
        b.CONSUMER_HEAD: notes[1],
        b.STATEMENT_JSON: statement_json(checkpoint, lines),
        b.STATEMENT_CSV: statement_csv(lines),
    }
    small[b.VERDICT] = verdict_json(verdict)
    members = [(MemberName(name), [data]) for name, data in small.items()]
    for name, batches, head in zip(b.FULL, sources, heads, strict=True) if full else ():
        try:
            members.append((MemberName(name, large=True), list(b.rebatch(batches, head.size))))
        except TallyError:
            members.append((MemberName(name, large=True), batches))
    out = io.BytesIO()
    write_archive(out, members)
    return out.getvalue()
