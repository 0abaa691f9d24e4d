"""Appends records to a pymerkle tree and proves some: one side only, nobody else is told.

python log_pymerkle.py FOLDER RECORDS SINGLES sqlite|memory

Needs `pip install pymerkle`. Prints one line of JSON.
"""

import importlib.metadata
import json
import resource
import sys
import time
from pathlib import Path

from pymerkle import InmemoryTree, SqliteTree, verify_inclusion

BATCH = 4096
START_US = 1_700_000_000_000_000
PROOFS = 200


def record(n):
    id_, subject = f"request-{n:012}-{'x' * 60}", f"project-{n % 50:03}-{'y' * 48}"
    at = START_US + n * 100
    return f"{id_}context-tokens{subject}{n % 5000}{at}".encode().ljust(180, b" ")


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def load(tree, first, count):
    for n in range(first, first + count, BATCH):
        tree.append_entries([record(m) for m in range(n, min(n + BATCH, first + count))])
        tree.get_root()  # the root, of which others would be told


def main(folder, records, singles, kind):
    file = Path(folder, "tree.sqlite")
    tree = SqliteTree(str(file)) if kind == "sqlite" else InmemoryTree()
    load(tree, 0, BATCH)  # warm up
    before, began = cpu(), time.perf_counter()
    load(tree, BATCH, records)
    seconds, after = time.perf_counter() - began, cpu()
    taken = []
    for n in range(BATCH + records, BATCH + records + singles):
        began = time.perf_counter()
        tree.append_entry(record(n))
        tree.get_root()
        taken.append((time.perf_counter() - began) * 1000)
    last, proofs, size = cpu(), [], tree.get_size()
    for n in range(PROOFS):
        index = 1 + n * (size - 1) // PROOFS
        began = time.perf_counter()
        proof = tree.prove_inclusion(index)
        proofs.append((time.perf_counter() - began) * 1000)
        verify_inclusion(tree.get_leaf(index), tree.get_root(), proof)
    if kind == "sqlite":
        tree.close()
    result = {
        "version": f"pymerkle {importlib.metadata.version('pymerkle')}, {type(tree).__name__}",
        "held": size,
        "seconds": seconds,
        "cpu": [after - before, None],
        "disk": [file.stat().st_blocks * 512 if kind == "sqlite" else None, None],
        "single_ms": taken,
        "single_cpu": [last - after, None],
        "proof_ms": proofs,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
