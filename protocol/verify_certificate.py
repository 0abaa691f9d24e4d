"""Verify a certificate: ten numbered checks, from bytes that anyone made to what they prove.

What it says in words at the end is exactly what the keys in its own terms signed for, and what is
only its author's word.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from tallystick.protocol.accusation import (
    ring_of,
    terms_of,
    verify_author_line,
    verify_cosigner_line,
)
from tallystick.protocol.certificate import TITLE, Certificate, Placed, parse_certificate
from tallystick.protocol.checkpoint import verify_checkpoint
from tallystick.protocol.checks import Check, Step, run_checks
from tallystick.protocol.errors import ProofError
from tallystick.protocol.heads import Head, verify_head_cosignature
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import origin
from tallystick.protocol.merkle import HASH_SIZE, leaf_hash, verify_consistency, verify_inclusion
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import (
    Answer,
    Attested,
    Close,
    Dispute,
    Lapse,
    Role,
    Terms,
    decode_record,
)
from tallystick.protocol.terms import role_of


class _Known:
    """What the checks have established so far; each attribute is set by the check beside it."""

    certificate: Certificate  # 1
    terms: Terms  # 2
    role: Role  # 2, of the log's author
    peer: str  # 2
    ring: Keyring  # 3
    record: Close | Dispute | Answer  # 5
    lapse: Lapse  # 6
    times: list[int]  # 7 and 8, POSIX seconds

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.times = []


def verify_certificate(data: bytes) -> list[Check]:
    """Run the ten checks on a file's bytes, whatever they are; it holds when all of them do.

    Whose keys these are is for whoever knows the channel's id.
    """
    return list(run_checks(_Known(data), _CHECKS))


def _check_form(known: _Known) -> str:
    """1. The file is in its one form."""
    known.certificate = parse_certificate(known.data)
    return f"{TITLE}, {hashlib.sha256(known.data).hexdigest()}"


def _check_terms(known: _Known) -> str:
    """2. The terms make sense, their SHA-256 is the channel, and the log is one of its parties'."""
    certificate = known.certificate
    terms = known.terms = terms_of(certificate.terms, certificate.channel_id)
    parties = (terms.provider.name, terms.consumer.name)
    if certificate.party not in parties:
        raise ProofError(f"{certificate.party} is not a party of this channel")
    known.role = role_of(terms, certificate.party)
    known.peer = next(name for name in parties if name != certificate.party)
    return (
        f"channel {certificate.channel_id.hex()} between {parties[0]} (provider)"
        f" and {parties[1]} (consumer)"
    )


def _check_keys(known: _Known) -> str:
    """3. Each rotation is signed by the key before it, so all keys follow from the terms."""
    rotations = known.certificate.rotations
    known.ring = ring_of(known.terms, rotations)
    return "those of the terms" + (f" and {len(rotations)} that followed" if rotations else "")


def _other(role: Role) -> Role:
    return "consumer" if role == "provider" else "provider"


def _check_head(known: _Known) -> str:
    """4. The head is of this log, signed by its author and co-signed by the peer."""
    noted = known.certificate.head
    if noted.head.origin != _origin(known):
        raise ProofError(f"the head is of {noted.head.origin}, not of {_origin(known)}")
    verify_author_line(noted.note, known.ring, known.role)
    at_s = verify_cosigner_line(noted.note, known.ring, _other(known.role))
    return f"{noted}, signed by {known.certificate.party}, co-signed by {known.peer} {_time(at_s)}"


def _origin(known: _Known) -> str:
    return origin(known.certificate.party, known.certificate.channel_id)


def _check_record(known: _Known) -> str:
    """5. The record that waited is in the log up to that head."""
    record = _included(known, known.certificate.record)
    if not isinstance(record, Close | Dispute | Answer):
        raise ProofError("the record that waited is neither a close, a dispute nor an answer")
    known.record = record
    _check_answered(known)
    return f"record {known.certificate.record.index} of {known.certificate.party}: {_what(known)}"


def _included(known: _Known, placed: Placed) -> object:
    head = known.certificate.head.head
    verify_inclusion(leaf_hash(placed.leaf), placed.index, head.size, placed.path, head.root)
    return decode_record(placed.leaf[HASH_SIZE:])


def _check_answered(known: _Known) -> None:
    """An answer comes with the dispute that it is to, and nothing else does."""
    data, record = known.certificate.dispute, known.record
    if isinstance(record, Answer) != bool(data):
        raise ProofError("an answer comes with the dispute that it answers, and only an answer")
    if isinstance(record, Answer) and hashlib.sha256(data).digest() != record.dispute:
        raise ProofError("the dispute is not the one that the answer names")


def _dispute(known: _Known) -> Dispute:
    """The dispute that it is about."""
    record = known.record
    found = record if isinstance(record, Dispute) else decode_record(known.certificate.dispute)
    if not isinstance(found, Dispute):
        raise ProofError("what was answered is no dispute")
    return found


def _what(known: _Known) -> str:
    """The record that waited, in words."""
    record = known.record
    if isinstance(record, Close):
        checkpoint = verify_checkpoint(record.checkpoint, known.ring)
        return f"the checkpoint of {checkpoint.period}, {checkpoint.digest().hex()}"
    dispute = _dispute(known)
    line = f"{dispute.period}/{dispute.meter}/{dispute.subject}"
    amount = _amount(known, dispute, dispute.amount)
    if isinstance(record, Dispute):
        return f"a dispute of {amount} of {line} ({dispute.code}: {dispute.reason})"
    conceded = _amount(known, dispute, record.conceded)
    return (
        f"an answer that concedes {conceded} of {amount}, to {known.peer}'s dispute of {line}"
        f" ({record.reason})"
    )


def _amount(known: _Known, dispute: Dispute, amount: int) -> str:
    meter = next((one for one in known.terms.meters if one.name == dispute.meter), None)
    if meter is None:
        raise ProofError(f"the dispute is of {dispute.meter}, which the terms do not have")
    return format_quantity(amount, 0 if meter.aggregate == "count" else meter.scale)


def _check_lapse(known: _Known) -> str:
    """6. The lapse is in the log up to that head, and it is of that record."""
    certificate = known.certificate
    lapse = _included(known, certificate.lapse)
    if not isinstance(lapse, Lapse):
        raise ProofError("what should be a lapse is a record of another kind")
    if lapse.index != certificate.record.index or certificate.lapse.index <= lapse.index:
        raise ProofError(f"the lapse is of record {lapse.index}, or not behind it")
    if (lapse.start.size, lapse.end.size) != certificate.sizes:
        raise ProofError("the sizes of its heads are not those that the lapse names")
    known.lapse = lapse
    return f"record {certificate.lapse.index} says that the time for it is over"


def _check_start(known: _Known) -> str:
    """7. The peer co-signed a head with the record, which is a prefix of the one above."""
    start, end = known.lapse.start, known.lapse.end
    if start.size <= known.lapse.index:
        raise ProofError("the first head does not hold the record")
    verify_consistency(start.size, start.root, end.size, end.root, known.certificate.paths[0])
    return _attest(known, start, "had it at")


def _check_end(known: _Known) -> str:
    """8. The peer co-signed a later head, which is a prefix of the one above."""
    end, head = known.lapse.end, known.certificate.head.head
    verify_consistency(end.size, end.root, head.size, head.root, known.certificate.paths[1])
    return _attest(known, end, "was there at")


def _attest(known: _Known, attested: Attested, what: str) -> str:
    """Note the time of a co-signature of the peer's; `ProofError` if no key of its made it.

    Any key that it ever had counts, as for the head: a peer that says afterwards that a key was
    given up earlier takes nothing back.
    """
    head = Head(_origin(known), attested.size, attested.root)
    at_s = int.from_bytes(attested.cosignature[:8], "big")
    fault = ProofError(f"no key of {known.peer} co-signed it")
    for key in reversed(known.ring.keys(_other(known.role), "cosigner")):
        try:
            verify_head_cosignature(head, known.peer, key, attested.cosignature)
        except ProofError as error:
            fault = error
        else:
            known.times.append(at_s)
            return f"{known.peer} {what} {_time(at_s)}, by its own clock ({attested.size} records)"
    raise fault


def _time(at_s: int) -> str:
    """A time as ISO 8601; what no calendar has as it is."""
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"second {at_s}"


def clock_seconds(terms: Terms, record: Close | Dispute | Answer) -> int:
    """How long the terms let the peer take before it has accepted such a record."""
    return terms.answer_seconds if isinstance(record, Dispute) else terms.dispute_seconds


def _check_clock(known: _Known) -> str:
    """9. Between both lies the time that the terms give, or more."""
    start, end = known.times
    needed = clock_seconds(known.terms, known.record)
    if end - start < needed:
        raise ProofError(f"{end - start} seconds lie between them; the terms give {needed}")
    return f"{end - start} seconds lie between them; the terms give {needed}"


def _check_meaning(known: _Known) -> str:
    """10. What follows, deemed accepted, upheld or lapsed; and what does not."""
    peer, count = known.peer, known.lapse.peer_size
    match known.record:
        case Close():
            return (
                f"{peer} is deemed to have accepted it, but for disputes among its first {count}"
                f" records. Not shown here: whether there are any; a full bundle shows it"
            )
        case Dispute():
            said, missing = "the dispute is upheld for want of an answer", "no answer to it"
        case Answer(conceded=conceded):
            kept = f"; upheld is the {_amount(known, _dispute(known), conceded)} that was conceded"
            said, missing = f"{peer}'s dispute lapsed{kept}", "nothing that insists on it"
    return (
        f"{said}. Not shown here: that {missing} was among {peer}'s first {count} records is"
        f" {known.certificate.party}'s word; {peer} refutes it with the proof of such a record of"
        " its log, and a full bundle proves it"
    )


_CHECKS: tuple[Step[_Known], ...] = (
    ("form", (), _check_form),
    ("terms", (1,), _check_terms),
    ("keys", (2,), _check_keys),
    ("head", (3,), _check_head),
    ("record", (4,), _check_record),
    ("lapse", (5,), _check_lapse),
    ("start", (6,), _check_start),
    ("end", (7,), _check_end),
    ("clock", (8,), _check_clock),
    ("meaning", (9,), _check_meaning),
)
