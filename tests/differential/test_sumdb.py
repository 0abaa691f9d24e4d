"""Trees, proofs and notes against Go's golang.org/x/mod/sumdb, as its module proxy uses it.

Needs Go and that package as Debian installs it (golang-golang-x-mod-dev), because a test must not
download anything; where they are not, these tests are left out and say so.
"""

from __future__ import annotations

import base64
import random
from pathlib import Path

import builders
import gotools
import pytest
from fuzzing.mutation import mutations
from gotools import ask
from nacl.signing import SigningKey

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import ED25519_COSIGNATURE, Vkey
from tallystick.protocol.merkle import (
    chain_leaves,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
)
from tallystick.protocol.notes import Note, format_note, parse_note, sign_note
from tallystick.protocol.proof import format_proof, parse_proof, verify_proof
from tallystick.protocol.records import encode_record
from tallystick.protocol.witness import cosign_checkpoint

pytestmark = pytest.mark.skipif(gotools.MISSING, reason=gotools.REASON)

SIZE_MAX = 300
DATA = [index.to_bytes(2, "big") * (index % 7) for index in range(SIZE_MAX)]
LEAVES = [leaf_hash(data) for data in DATA]
CHANNEL = builders.busy_channel()
RING = Keyring(CHANNEL.terms)
LOG, COSIGNER = RING.log_vkeys("provider")[0], RING.cosigner_vkeys("consumer")[0]
BROKEN = 300  # proofs that mutation made


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gotools.build(tmp_path_factory.mktemp("go"))


def _hashes(answered: list[str] | None) -> list[bytes]:
    return [base64.b64decode(item) for item in answered or []]


def test_roots_and_proofs_are_the_same(program: Path) -> None:
    chance = random.Random(6962)
    sizes = [*range(1, 40), *(chance.randint(40, SIZE_MAX) for _ in range(100))]
    pairs = [(size, chance.randrange(size)) for size in sizes]
    answer = ask(program, Leaves=[_b64(data) for data in DATA], Pairs=pairs)

    def subtree(start: int, end: int) -> bytes:
        return root_of(LEAVES[start:end])

    # Some versions of the package have another root of the empty tree than RFC 6962.
    roots = _hashes(answer["Roots"])[1:]
    assert roots == [root_of(LEAVES[:size]) for size in range(1, SIZE_MAX + 1)]
    assert [_hashes(path) for path in answer["Inclusions"]] == [
        inclusion_path(index, size, subtree) for size, index in pairs
    ]
    assert [_hashes(path) for path in answer["Prefixes"]] == [
        consistency_path(old + 1, size, subtree) for size, old in pairs
    ]


def _proofs() -> list[tuple[bytes, bytes]]:
    """The proof of each record of a log, with its leaf's data."""
    log = CHANNEL.provider_log
    parts = [encode_record(record) for record in log.records]
    leaves = chain_leaves(CHANNEL.id, parts)
    before = [CHANNEL.id, *leaves]
    note = log.head_note()
    made = []
    for index, part in enumerate(parts):
        path = inclusion_path(index, len(leaves), lambda a, b: root_of(leaves[a:b]))
        made.append((format_proof(index, path, note), before[index] + part))
    return made


def _holds(file: bytes, leaf: bytes) -> bool:
    try:
        verify_proof(parse_proof(file), leaf, LOG, COSIGNER)
    except (FormatError, ProofError):
        return False
    return True


def test_what_one_proves_the_other_believes(program: Path) -> None:
    good = _proofs()
    leaf = good[-1][1]
    bad = [(file, leaf) for file in mutations([good[-1][0]], BROKEN, seed=1)]
    bad += [(file, leaf + b"x") for file, leaf in good]
    answer = ask(
        program,
        Proofs=[
            {"File": _b64(file), "Leaf": _b64(leaf), "Log": str(LOG), "Cosigner": str(COSIGNER)}
            for file, leaf in good + bad
        ],
    )
    said = answer["Proofs"]
    assert said[: len(good)] == [""] * len(good)
    assert all(_holds(*proof) for proof in good)
    # Go takes a few forms that we do not write; what we take, it takes as well.
    theirs = {at for at, why in enumerate(said[len(good) :]) if not why}
    ours = {at for at, proof in enumerate(bad) if _holds(*proof)}
    assert ours <= theirs
    assert len(theirs) < len(bad) // 10


def test_notes_signed_there_and_here_are_the_same_bytes(program: Path) -> None:
    key = CHANNEL.provider.log
    vkey = Vkey(LOG.name, LOG.kind, bytes(key.verify_key))
    secret = f"PRIVATE+KEY+{vkey.name}+{vkey.id.hex()}+{_b64(bytes([vkey.kind]) + bytes(key))}"
    texts = [closed.checkpoint.text() for closed in CHANNEL.closed] + ["a\n", "\n", "é\n\nb\n"]
    answer = ask(program, Signed=[{"Text": text, "Signer": secret} for text in texts])
    assert _hashes(answer["Notes"]) == [
        format_note(Note(text, (sign_note(text, vkey.name, key),))) for text in texts
    ]


def test_lines_of_witnesses_are_believed_there_too(program: Path) -> None:
    keys = [SigningKey(bytes([n]) * 32) for n in range(3)]
    vkeys = [Vkey(f"w{n}", ED25519_COSIGNATURE, bytes(k.verify_key)) for n, k in enumerate(keys)]
    file, leaf = _proofs()[-1]
    proof = parse_proof(file)
    note = parse_note(proof.note)
    pairs = zip(vkeys, keys, strict=True)
    lines = [cosign_checkpoint(note.text, vkey.name, key, 1_793_491_200) for vkey, key in pairs]

    def proved(*lines_: object) -> dict[str, object]:
        signed = format_note(Note(note.text, (*note.signatures, *lines_)))  # type: ignore[arg-type]
        made = format_proof(proof.index, proof.path, signed)
        asked = {"File": _b64(made), "Leaf": _b64(leaf), "Witnesses": list(map(str, vkeys[:2]))}
        return {**asked, "Log": str(LOG), "Cosigner": str(COSIGNER)}

    false = cosign_checkpoint("another text\n", vkeys[1].name, keys[1], 1)
    answer = ask(program, Proofs=[proved(*lines), proved(lines[0]), proved(lines[0], false)])
    assert answer["Proofs"][:2] == ["", "not signed by all"]
    assert answer["Proofs"][2]
