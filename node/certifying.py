"""Certificates out of the store: that a deadline passed in silence, for whoever asks."""

from __future__ import annotations

from tallystick.node.accusing import rotations
from tallystick.node.attesting import first_attested, until_s
from tallystick.node.channel import Channel
from tallystick.node.disputing import NAME_LENGTH, close_of, log_of, other_log
from tallystick.node.logs import ChannelLog
from tallystick.node.proving import signed_head
from tallystick.node.tree import LogTree
from tallystick.node.worklist import local_time
from tallystick.protocol.certificate import Subject, build_certificate
from tallystick.protocol.disputes import Standing
from tallystick.protocol.errors import InputError, ProofError
from tallystick.protocol.records import Answer, Lapse, encode_record
from tallystick.protocol.verify_certificate import verify_certificate


def of_dispute(channel: Channel, one: Standing) -> bytes:
    """The certificate of the lapse that decided a dispute; `InputError` if none did."""
    name = one.digest.hex()[:NAME_LENGTH]
    if one.lapse is None:
        raise InputError(
            f"no deadline decided dispute {name}: it is {one.state}",
            "See tally disputes; a certificate is of a deadline that passed",
        )
    return _certificate(channel, log_of(channel, one.lapse[0]), one.lapse[1])


def of_period(channel: Channel, label: str, *, theirs: bool) -> bytes:
    """The certificate that the peer (with `theirs`: that we) accepted a checkpoint by silence."""
    period = channel.own.folder.calendar.parse(label).label
    log = channel.peer if theirs else channel.own
    index = close_of(log, period)
    if index is None:
        raise InputError(f"{period} is not closed", f"Close it: tally checkpoint {period}")
    lapse = log.ended_by(index)
    if lapse is None:
        until = local_time(channel, until_s(log, index))
        who = other_log(channel, log.role).party.name
        raise InputError(
            f"{period} is not accepted yet: {who} may dispute it"
            + (f" until {until}" if until else ", and has not co-signed that it is closed"),
            "Its node writes that down by itself once both clocks show it",
        )
    return _certificate(channel, log, lapse)


def _certificate(channel: Channel, log: ChannelLog, at: int) -> bytes:
    """The file of the lapse at an index of a log, under the first co-signed head with it."""
    lapse = log.record(at)
    assert isinstance(lapse, Lapse)
    attested = first_attested(log, at)
    if attested is None:
        raise InputError(
            f"the lapse, record {at} of {log.party.name}'s log, is not co-signed here yet",
            "See tally status; it is co-signed when the peer is connected",
        )
    keys = tuple(
        part for one in (channel.provider_log, channel.consumer_log) for part in rotations(one)
    )
    dispute = _answered(channel, log, lapse.index)
    subject = Subject(channel.id, log.party.name, channel.row.terms, keys, dispute)
    with log.store.read() as txn:
        tree = LogTree(txn, log.number, log.channel_id, attested.size)
        made = build_certificate(
            subject,
            (lapse.index, tree.leaf_data(lapse.index)),
            (at, tree.leaf_data(at)),
            signed_head(log, txn, attested.size),
            tree.subtree,
        )
    for check in verify_certificate(made):
        if not check.ok:
            raise ProofError(f"the certificate does not hold: {check.name}: {check.detail}")
    return made


def _answered(channel: Channel, log: ChannelLog, index: int) -> bytes:
    """The bytes of the dispute that the record at an index answers; empty if it is no answer."""
    record = log.matter(index)
    if not isinstance(record, Answer):
        return b""
    other = other_log(channel, log.role)
    place = other.index_of(record.dispute)
    dispute = None if place is None else other.matter(place)
    if dispute is None:
        raise ProofError(f"record {index} answers a dispute that is not here")
    return encode_record(dispute)
