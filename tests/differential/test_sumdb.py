"""Trees, proofs and notes against Go's golang.org/x/mod/sumdb, as its module proxy uses it.

Needs Go and that package as Debian installs it (golang-golang-x-mod-dev), because a test must not
download anything; where they are not, these tests are left out and say so.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import builders
import pytest
from fuzzing.mutation import mutations

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import Vkey
from tallystick.protocol.merkle import (
    chain_leaves,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
)
from tallystick.protocol.notes import Note, format_note, sign_note
from tallystick.protocol.proof import format_proof, parse_proof, verify_proof
from tallystick.protocol.records import encode_record

PROGRAM = Path(__file__).parent / "tlog"
GO_PATH = Path("/usr/share/gocode")
MISSING = shutil.which("go") is None or not (GO_PATH / "src/golang.org/x/mod/sumdb/tlog").is_dir()
pytestmark = pytest.mark.skipif(
    MISSING, reason="needs Go and its x/mod: apt install golang-go golang-golang-x-mod-dev"
)

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
    folder = tmp_path_factory.mktemp("go")
    settings = {"GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOCACHE": str(folder / "cache")}
    built = folder / "tlog"
    subprocess.run(
        ["go", "build", "-o", str(built), "."],
        cwd=PROGRAM,
        env={**os.environ, **settings, "GOFLAGS": ""},
        check=True,
    )
    return built


def _ask(program: Path, **question: object) -> dict[str, Any]:
    done = subprocess.run(
        [program], input=json.dumps(question).encode(), capture_output=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _hashes(answered: list[str] | None) -> list[bytes]:
    return [base64.b64decode(item) for item in answered or []]


def test_roots_and_proofs_are_the_same(program: Path) -> None:
    chance = random.Random(6962)
    sizes = [*range(1, 40), *(chance.randint(40, SIZE_MAX) for _ in range(100))]
    pairs = [(size, chance.randrange(size)) for size in sizes]
    answer = _ask(program, Leaves=[_b64(data) for data in DATA], Pairs=pairs)

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
    answer = _ask(
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
    answer = _ask(program, Signed=[{"Text": text, "Signer": secret} for text in texts])
    assert _hashes(answer["Notes"]) == [
        format_note(Note(text, (sign_note(text, vkey.name, key),))) for text in texts
    ]
