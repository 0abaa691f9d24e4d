"""Every target holds on its seeds, on its kept corpus and on seeded mutations of both."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from fuzzing import logs, seeds
from fuzzing.contract import remove_scratch
from fuzzing.mutation import mutations
from fuzzing.targets import TARGETS
from tallystick.protocol.log import Rules
from tallystick.protocol.records import decode_batch

MUTATIONS = 600
# What takes much longer than the others is tried less often.
FEWER = {
    "bundles": 60,
    "evidence": 300,
    "guilty": 60,
    "innocents": 60,
    "logs": 40,
    "manifests": 100,
    "pages": 60,
    "parquet": 200,
    "reconciling": 300,
    "refutations": 300,
    "rows": 30,
    "session": 300,
    "signed-bundles": 30,
    "sketches": 200,
    "statement-files": 150,
    "verified": 60,
}


@pytest.fixture(scope="module", autouse=True)
def _scratch() -> Iterator[None]:
    yield
    remove_scratch()


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_keeps_its_contract(name: str) -> None:
    target, begin = TARGETS[name], seeds.of(name)
    assert begin
    for data in begin:
        target(data)
    seed = zlib.crc32(name.encode())
    for data in mutations(begin, FEWER.get(name, MUTATIONS), seed):
        try:
            target(data)
        except Exception as error:
            error.add_note(f"the input of {name}, in hexadecimal: {data.hex()}")
            raise


def test_the_disputes_to_begin_from_are_valid() -> None:
    """Else what is made of them would be refused before it disputes anything."""
    for log, batch in zip(logs.CHANNEL.logs, seeds._disputed(), strict=True):
        records, _ = decode_batch(batch)
        facts = Rules(log.terms, log.role).check_batch(log.state, records, log)
        assert facts.recorded_at > log.state.facts.recorded_at


def test_no_corpus_is_without_its_target() -> None:
    assert {folder.name for folder in seeds.CORPUS.iterdir()} <= set(TARGETS)
