"""What this machine can do at all: the stages of the work, bare, one process and one thread.

Measured just before each benchmark that they bound, so that a ratio to them is of the same moment.
What only computes is counted by processor time: of a busy machine the clock says little.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nacl.signing import SigningKey

from benchmarks import load, loopback
from benchmarks.figures import Figures
from tallystick.protocol.records import Delta, batch_bytes, decode_batch, encode_record

REPEATS = 5
HASHES = 50_000
SIGNATURES = 500
SYNCS = {"fsync_4k_p50_ms": (4096, 100), "fsync_1m_p50_ms": (1024 * 1024, 20)}
RECORD_BYTES = 180
PREVIOUS = bytes(32)  # the leaf hash that a record is hashed behind
STARTS = 5

HASH, SIGN, VERIFY = "sha256_per_second", "ed25519_sign_per_second", "ed25519_verify_per_second"
ENCODE, DECODE = "encode_per_second", "decode_per_second"
FSYNC, FSYNC_BATCH = SYNCS
TLS, TURN = "tls_bytes_per_second", "tls_round_trip_ms"
PYTHON = "python_start_ms"
EXCHANGE = (HASH, SIGN, VERIFY, ENCODE, DECODE, FSYNC, FSYNC_BATCH, TLS, TURN)


def _rate(count: int, work: Callable[[], object]) -> list[float]:
    """How often a second of processor, of some repeats of `count` at once; the first warms up."""
    rates = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        work()
        rates.append(count / (time.process_time() - began))
    return rates[1:]


def _hash() -> list[float]:
    record = b"\0" + PREVIOUS + bytes(RECORD_BYTES)
    sha256 = hashlib.sha256
    return _rate(HASHES, lambda: [sha256(record).digest() for _ in range(HASHES)])


def _deltas() -> list[Delta]:
    at = load.START_US
    made = [load.draft(n) for n in range(load.BATCH)]
    return [Delta(d.id, d.meter, d.subject, d.quantity, d.occurred_at, at, None) for d in made]


def _encode() -> list[float]:
    deltas = _deltas()
    return _rate(len(deltas) * 4, lambda: [encode_record(delta) for delta in deltas * 4])


def _decode_batches() -> list[float]:
    batch = batch_bytes([encode_record(delta) for delta in _deltas()])
    return _rate(load.BATCH * 4, lambda: [decode_batch(batch) for _ in range(4)])


def _sign() -> list[float]:
    key, head = SigningKey(bytes(32)), bytes(200)
    return _rate(SIGNATURES, lambda: [key.sign(head) for _ in range(SIGNATURES)])


def _verify() -> list[float]:
    key, head = SigningKey(bytes(32)), bytes(200)
    signature, public = key.sign(head).signature, key.verify_key
    return _rate(SIGNATURES, lambda: [public.verify(head, signature) for _ in range(SIGNATURES)])


def _fsync_ms(folder: Path, size: int, count: int) -> list[float]:
    """Milliseconds of each of some writes with their fsync."""
    data, taken = os.urandom(size), []
    file = folder / "fsync"
    with file.open("wb", buffering=0) as out:
        for _ in range(count):
            began = time.perf_counter()
            out.write(data)
            os.fdatasync(out.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    file.unlink()
    return taken


def _python_ms() -> list[float]:
    """Milliseconds until an interpreter that does nothing has started and ended."""
    taken = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


_SIMPLE: dict[str, Callable[[], list[float]]] = {
    HASH: _hash,
    SIGN: _sign,
    VERIFY: _verify,
    ENCODE: _encode,
    DECODE: _decode_batches,
    PYTHON: _python_ms,
}


def measure(names: tuple[str, ...], folder: Path, figures: Figures) -> None:
    """Put these limits into a result, with their spread."""
    for name, work in _SIMPLE.items():
        if name in names:
            figures.repeated(f"limits.{name}", work())
    for name, (size, count) in SYNCS.items():
        if name in names:
            figures.repeated(f"limits.{name}", _fsync_ms(folder, size, count))
    if {TLS, TURN} & set(names):
        rates, turns = loopback.measure(folder, REPEATS)
        figures.repeated(f"limits.{TLS}", rates)
        figures.repeated(f"limits.{TURN}", [seconds * 1000 for seconds in turns])
