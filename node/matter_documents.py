"""Matters as people and programs read them in a log: digests in hex, amounts in decimals."""

from __future__ import annotations

from typing import Any

from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import (
    Answer,
    Attested,
    Declaration,
    Disclosure,
    Dispute,
    Epoch,
    Lapse,
    Matter,
    Named,
    Reminder,
    Resolution,
    Reveal,
    Terms,
    Withdrawal,
    record_digest,
)


def matter_document(terms: Terms, record: Matter | Epoch) -> dict[str, Any]:
    """The fields of a matter or an epoch. Amounts that an answer or a resolution names are of a
    dispute's meter, which the record does not say: they are as they stand, in its smallest unit.
    """
    document: dict[str, Any] = {"recorded_at": record.recorded_at}
    match record:
        case Epoch():
            document |= {"number": record.number, "reason": record.reason}
        case Declaration():
            document |= {"period": record.period, "commitment": record.commitment.hex()}
        case Reveal():
            document |= {
                "declaration": record.declaration.hex(),
                "peer_declaration": record.peer_declaration.hex(),
                "totals": {one.meter: one.total for one in record.totals},
            }
        case Dispute():
            document |= {
                "dispute": record_digest(record).hex(),
                "period": record.period,
                "meter": record.meter,
                "subject": record.subject,
                "amount": format_quantity(record.amount, _scale(terms, record.meter)),
                "code": record.code,
                "reason": record.reason,
                "records": _named(terms, record.records),
            }
        case Answer():
            document |= {
                "dispute": record.dispute.hex(),
                "conceded_units": record.conceded,
                "reason": record.reason,
                "records": _named(terms, record.records),
            }
        case Resolution():
            document |= {
                "dispute": record.dispute.hex(),
                "upheld_units": record.upheld,
                "reason": record.reason,
            }
        case Withdrawal():
            document |= {"dispute": record.dispute.hex(), "reason": record.reason}
        case Reminder():
            document |= {"of": record.index}
        case Lapse():
            document |= {
                "of": record.index,
                "start": _attested(record.start),
                "end": _attested(record.end),
                "peer_size": record.peer_size,
            }
        case Disclosure():
            document |= {
                "session": record.session.hex(),
                "period": record.period,
                "opened": record.opened,
                "received": record.received,
                "digest": record.digest.hex(),
            }
    return document


def _scale(terms: Terms, name: str) -> int:
    meter = next(meter for meter in terms.meters if meter.name == name)
    return 0 if meter.aggregate == "count" else meter.scale


def _named(terms: Terms, records: tuple[Named, ...]) -> list[dict[str, Any]]:
    parties = {"provider": terms.provider.name, "consumer": terms.consumer.name}
    return [{"party": parties[named.role], "index": named.index} for named in records]


def _attested(attested: Attested) -> dict[str, Any]:
    return {
        "size": attested.size,
        "root": attested.root.hex(),
        "at": int.from_bytes(attested.cosignature[:8], "big"),
    }
