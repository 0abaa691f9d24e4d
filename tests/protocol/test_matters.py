"""Which matters may stand in a log, and that hostile ones cost no more than others."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
from builders import DECEMBER_US
from disputing import ANSWER_DAYS, DISPUTE_DAYS, Quarrel
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol import matters
from tallystick.protocol.declarations import commitment
from tallystick.protocol.errors import InvalidRecord
from tallystick.protocol.heads import cosign_head
from tallystick.protocol.log import LogState, Rules, append
from tallystick.protocol.matters import Matters, Nameable, Said
from tallystick.protocol.records import (
    INT64_MAX,
    Answer,
    Attested,
    Declaration,
    DeclaredTotal,
    Disclosure,
    Dispute,
    Epoch,
    Lapse,
    Matter,
    Named,
    Record,
    Reminder,
    Resolution,
    Reveal,
    Withdrawal,
    encode_record,
    record_digest,
)
from tallystick.protocol.replay import survey_log

NOW = DECEMBER_US
DISPUTE = Dispute("2026-10", "tokens", "project-7", 5, "quantity", "too much", (), NOW)
NOBODY = bytes(32)


def quarrel() -> Quarrel:
    """A channel with usage and October closed; the close is each log's last record."""
    channel = Quarrel()
    channel.count("tokens", 100, 90)
    channel.closing()
    return channel


def refused(channel: Quarrel, record: Record, message: str) -> None:
    """The consumer's log does not take the record, and says why."""
    with pytest.raises(InvalidRecord, match=message):
        channel.consumer_log.append(record)


def changed(record: Matter, **fields: object) -> Matter:
    return msgspec.structs.replace(record, **fields)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (changed(DISPUTE, period="2026-13"), "not a month"),
        (changed(DISPUTE, period="2026-10-01"), "not a month"),
        (changed(DISPUTE, meter="water"), "the meter 'water', which the terms do not have"),
        (changed(DISPUTE, subject="a\nb"), "control character"),
        (changed(DISPUTE, reason="a\x1bb"), "control character"),
        (changed(DISPUTE, amount=0), "an amount of nothing"),
        (changed(DISPUTE, records=(Named("consumer", 3),)), "names record 3 of this log"),
        (
            changed(DISPUTE, records=(Named("provider", 9), Named("consumer", 99))),
            "names record 99",
        ),
        (Answer(NOBODY, 0, "a\x7fb", (), NOW), "control character"),
        (Answer(NOBODY, 0, "no", (Named("consumer", 3),), NOW), "names record 3 of this log"),
        (Resolution(NOBODY, 3, "\x00", NOW), "control character"),
        (Withdrawal(NOBODY, "ours", NOW), "a dispute that is not in this log"),
        (Reminder(3, NOW), "record 3 of this log is none that waits"),
        (Reminder(1, NOW), "record 1 of this log is none that waits"),
        (Reminder(INT64_MAX, NOW), "is none that waits"),
        (Declaration("2026", NOBODY, NOW), "not a month"),
        (Disclosure(NOBODY, "October", 1, 1, NOBODY, NOW), "not a month"),
    ],
)
def test_a_matter_that_does_not_fit_is_refused(record: Matter, message: str) -> None:
    refused(quarrel(), record, f"record 3: .*{message}")


def test_what_fits_is_taken() -> None:
    channel = quarrel()
    log = channel.consumer_log
    named = (Named("consumer", 2), Named("provider", INT64_MAX))
    dispute = changed(DISPUTE, records=named, period="9998-12", amount=-5)
    ours = record_digest(dispute)
    for record in (
        Reminder(2, NOW),
        dispute,
        Reminder(4, NOW),
        Answer(ours, 0, "we insist", named, NOW),
        Answer(NOBODY, -3, "of a dispute that is nowhere yet", (), NOW),
        Reminder(7, NOW),
        Resolution(NOBODY, 7, "so be it", NOW),
        Withdrawal(ours, "it was ours", NOW),
        Withdrawal(ours, "as was said", NOW),
        Disclosure(NOBODY, "2026-10", 3, 4, NOBODY, NOW),
        Declaration("2026-11", NOBODY, NOW),
    ):
        log.append(record)
    assert log.state.facts.recorded_at == NOW


def test_of_its_own_dispute_a_party_concedes_nothing_and_is_not_reminded() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 5)
    refused(
        channel, Answer(digest, 1, "a part", (), 2 * NOW), "concedes a part of a dispute to its own"
    )
    index = channel.answer("consumer", digest)
    refused(channel, Reminder(index, 2 * NOW), "insists on this party's own dispute")


def test_only_a_dispute_is_withdrawn() -> None:
    channel = quarrel()
    declaration = Declaration("2026-10", NOBODY, NOW)
    channel.consumer_log.append(declaration)
    refused(channel, Withdrawal(record_digest(declaration), "no", NOW), "not in this log")


# Declarations


def declared(channel: Quarrel, *totals: DeclaredTotal) -> Reveal:
    made = commitment(channel.terms, "consumer", "2026-10", NOBODY, totals)
    declaration = Declaration("2026-10", made, NOW)
    channel.consumer_log.append(declaration)
    return Reveal(record_digest(declaration), NOBODY, NOBODY, totals, NOW)


def test_a_declaration_is_opened_once_and_as_it_was_committed_to() -> None:
    channel = quarrel()
    reveal = declared(channel, DeclaredTotal("gpu-hours", "12.50"), DeclaredTotal("tokens", "-7"))
    refused(channel, changed(reveal, salt=b"x" * 32), "not what its declaration committed to")
    refused(channel, changed(reveal, totals=reveal.totals[:1]), "not what its declaration")
    refused(channel, changed(reveal, declaration=NOBODY), "a declaration that is not in this log")
    channel.consumer_log.append(reveal)
    refused(channel, reveal, "open already")


@pytest.mark.parametrize(
    ("totals", "message"),
    [
        ([("tokens", "1"), ("gpu-hours", "1.00")], "not sorted"),
        ([("tokens", "1"), ("tokens", "1")], "there twice"),
        ([("water", "1")], "the terms do not have"),
        *(
            ([("gpu-hours", text)], "not a decimal")
            for text in ("1", "1.5", "01.50", "-0.00", "+1.00")
        ),
        ([("tokens", "1" + "0" * 39)], "not a decimal"),
        ([("calls", "1.0")], "not a decimal"),
    ],
)
def test_declared_totals_are_in_one_form(totals: list[tuple[str, str]], message: str) -> None:
    channel = quarrel()
    reveal = declared(channel, *(DeclaredTotal(*total) for total in totals))
    refused(channel, reveal, message)


# Lapses


def lapse_of(channel: Quarrel, index: int, days: float = DISPUTE_DAYS) -> Lapse:
    """A valid lapse of a record of the consumer's, next in its log."""
    start = channel.attest("consumer", 1)
    channel.consumer_log.append(Reminder(index, channel.at("consumer", 1 + days)))
    end = channel.attest("consumer", 1 + days)
    return Lapse(index, start, end, 0, channel.at("consumer", 1 + days))


def test_a_close_a_dispute_and_an_answer_lapse_after_the_clock_of_each() -> None:
    channel = quarrel()
    channel.consumer_log.append(lapse_of(channel, 2))
    channel.dispute("consumer", 5)
    index = channel.consumer_log.state.size - 1
    refused(channel, lapse_of(channel, index, ANSWER_DAYS - 0.01), "2504736 seconds apart; 2505600")
    channel.consumer_log.append(lapse_of(channel, index, ANSWER_DAYS))
    index = channel.answer("consumer", channel.dispute("provider", -5), -1)
    channel.consumer_log.append(lapse_of(channel, index))
    assert channel.consumer_log.ended(index)


def test_a_lapse_rests_on_heads_of_its_log_between_the_record_and_itself() -> None:
    channel = quarrel()
    early = channel.attest("consumer", 0)
    channel.dispute("consumer", 5)
    good = lapse_of(channel, 3, ANSWER_DAYS)
    last = Attested(99, *msgspec.structs.astuple(good.end)[1:])
    for start, end in ((early, good.end), (good.end, good.start), (good.start, last)):
        refused(channel, changed(good, start=start, end=end), "not between record 3 and itself")
    refused(channel, changed(good, index=5), "record 5 of this log is none")
    refused(channel, changed(good, index=1), "record 1 of this log is none")
    channel.consumer_log.append(good)
    refused(channel, good, "record 3 lapsed before")


def test_a_lapse_rests_on_the_peers_own_co_signatures() -> None:
    channel = quarrel()
    good = lapse_of(channel, 2)
    end = good.end
    refused(channel, changed(good, end=changed_head(end, root=NOBODY)), "its head 4: ")
    later = (int.from_bytes(end.cosignature[:8], "big") + 1).to_bytes(8, "big")
    forged = changed_head(end, cosignature=later + end.cosignature[8:])
    refused(channel, changed(good, end=forged), "its head 4: ")
    # A head of the other log says nothing of this one.
    other = channel.attest("provider", 1)
    refused(channel, changed(good, start=other), "its head 3: ")
    # Nor does one that its author co-signed.
    head, seconds = channel.consumer_log.head(), NOW // 1_000_000 + 99 * 86_400
    own = Attested(head.size, head.root, cosign_head(head, channel.consumer.cosigner, seconds))
    refused(channel, changed(good, end=own), "its head 4: ")
    channel.consumer_log.append(good)


def changed_head(attested: Attested, **fields: object) -> Attested:
    return msgspec.structs.replace(attested, **fields)


def test_a_lapse_rests_on_the_key_in_force_at_each_head() -> None:
    channel = quarrel()
    start, log = channel.attest("consumer", 1), channel.consumer_log
    channel.rotate("provider", "cosigner")
    end = channel.attest("consumer", 1 + DISPUTE_DAYS)
    good = Lapse(2, start, end, 0, channel.at("consumer", 20))
    old = cosign_head(log.head(), channel.provider.cosigner, NOW // 1_000_000 + 99 * 86_400)
    refused(channel, changed(good, end=changed_head(end, cosignature=old)), "its head 4: ")
    log.append(good)


def test_a_lapse_does_not_rest_on_heads_of_what_was_lost() -> None:
    channel = quarrel()
    log = channel.consumer_log
    log.append(Epoch(1, 0, NOBODY, 6, NOBODY, "the disk", NOW))
    log.append(DISPUTE)
    early = lapse_of(channel, 4, ANSWER_DAYS)  # heads 5 and 6: there may be others of that size
    refused(channel, early, "a size up to 6, which was lost once")
    log.append(Reminder(4, channel.at("consumer", 40)))
    log.append(lapse_of(channel, 4, ANSWER_DAYS))


def test_validity_is_the_same_however_batches_are_cut() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 5)
    channel.answer("consumer", digest)
    channel.lapse("consumer", 3, 1, 1 + ANSWER_DAYS)
    channel.withdraw("consumer", digest)
    log = channel.consumer_log
    rules, empty = Rules(channel.terms, "consumer"), LogState.empty(channel.id)
    for cut in range(log.state.size + 1):
        past = Past()
        facts = rules.check_batch(empty, log.records[:cut], past)
        past.take(0, log.records[:cut])
        before = append(empty, [encode_record(record) for record in log.records[:cut]], facts).state
        assert rules.check_batch(before, log.records[cut:], past) == log.state.facts


class Past(Matters):
    """A log of which only the matters are asked for."""

    def effective(self, meter: str, id: str) -> None:
        return None


# What hostile records cost


def test_a_peer_cannot_have_the_same_co_signatures_verified_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = quarrel()
    log = channel.consumer_log
    log.append(*(changed(DISPUTE, amount=n + 1) for n in range(50)))
    good = lapse_of(channel, 3, ANSWER_DAYS)
    verified = []
    real = matters.verify_head_cosignature
    monkeypatch.setattr(
        matters, "verify_head_cosignature", lambda *given: verified.append(given) or real(*given)
    )
    log.append(*(changed(good, index=3 + n) for n in range(50)))
    assert len(verified) == 2


def test_cheap_checks_come_before_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = quarrel()
    monkeypatch.setattr(matters, "verify_head_cosignature", partial(pytest.fail, "verified"))
    nothing = Attested(1, NOBODY, bytes(72))
    refused(channel, Lapse(2, nothing, nothing, 0, NOW), "not between")
    nothing = Attested(3, NOBODY, bytes(72))
    refused(channel, Lapse(2, nothing, nothing, 0, NOW), "0 seconds apart")


@given(st.data())
def test_matters_in_memory_are_what_a_list_says(data: st.DataObject) -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 5)
    channel.answer("consumer", digest)
    channel.dispute("consumer", 6)
    log = channel.consumer_log
    cut = data.draw(st.integers(0, log.state.size))
    below, above = Matters(), None
    below.take(0, log.records[:cut])
    above = Matters(below)
    above.take(cut, log.records[cut:])
    assert above.index_of(digest) == 3
    assert above.index_of(NOBODY) is None
    for index, record in enumerate(log.records):
        assert above.matter(index) == (record if index > 1 else None)
    said: list[Said] = [*below.matters(cut), *above.matters(log.state.size)]
    assert said == log.matters(log.state.size) == list(enumerate(log.records))[2:]


def test_a_survey_finds_them() -> None:
    channel = quarrel()
    channel.dispute("consumer", 5)
    log = channel.consumer_log
    found = survey_log(channel.terms, "consumer", channel.id, log.source, log.state.size)
    assert found.fault is None
    assert list(found.matters) == log.matters(log.state.size)


class Counting(Past):
    """A log before it that counts what it is asked."""

    asked = 0

    def matter(self, index: int) -> Nameable | None:
        self.asked += 1
        return super().matter(index)

    def index_of(self, digest: bytes) -> int | None:
        self.asked += 1
        return super().index_of(digest)

    def ended(self, index: int) -> bool:
        self.asked += 1
        return super().ended(index)


def test_each_of_thousands_in_one_batch_costs_a_few_look_ups() -> None:
    channel = quarrel()
    log, past, records = channel.consumer_log, Counting(), list[Record]()
    for n in range(2000):
        dispute = changed(DISPUTE, amount=n + 1)
        digest = record_digest(dispute)
        records += [dispute, Answer(digest, 0, "we insist", (), NOW)]
        records += [Withdrawal(digest, "no", NOW), Reminder(log.state.size + 4 * n, NOW)]
    Rules(channel.terms, "consumer").check_batch(log.state, records, past)
    assert past.asked <= 2 * len(records)
