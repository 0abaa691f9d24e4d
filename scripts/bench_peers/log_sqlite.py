"""What one would write in an afternoon: SQLite at both ends, a hash chain, and a socket between.

python log_sqlite.py FOLDER RECORDS SINGLES

The author stores a batch and sends it; the other side checks the chain, stores it too, and answers
with the chain's end. Both commit with an fsync (synchronous=FULL). Prints one line of JSON.
"""

import hashlib
import json
import multiprocessing
import resource
import socket
import sqlite3
import struct
import sys
import time
from pathlib import Path

BATCH = 4096
IN_FLIGHT = 6
START_US = 1_700_000_000_000_000
TABLE = """
CREATE TABLE records (
    place INTEGER PRIMARY KEY, meter TEXT NOT NULL, id TEXT NOT NULL, subject TEXT NOT NULL,
    quantity INTEGER NOT NULL, occurred_at INTEGER NOT NULL, recorded_at INTEGER NOT NULL,
    hash BLOB NOT NULL, UNIQUE (meter, id)
)"""


def record(n):
    id_, subject = f"request-{n:012}-{'x' * 60}", f"project-{n % 50:03}-{'y' * 48}"
    return "context-tokens", id_, subject, n % 5000, START_US + n * 100


def chained(rows, before, first):
    """The rows with their places and hashes, each of the one before and of the row itself."""
    out = []
    for place, row in enumerate(rows, first):
        before = hashlib.sha256(before + "\x1f".join(map(str, row)).encode()).digest()
        out.append((place, *row, before))
    return out


def opened(file):
    base = sqlite3.connect(file, isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=FULL")
    base.execute(TABLE)
    return base


def store(base, rows):
    base.execute("BEGIN")
    base.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    base.execute("COMMIT")


def send(link, data):
    link.sendall(struct.pack(">I", len(data)) + data)


def receive(stream):
    head = stream.read(4)
    return stream.read(struct.unpack(">I", head)[0]) if head else None


def consumer(port, file):
    base = opened(file)
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = link.makefile("rb")
    head, place = b"", 0
    while (data := receive(stream)) is not None:
        if data == b"cpu":
            send(link, json.dumps(cpu()).encode())
            continue
        claimed, rows = json.loads(data)
        made = chained(rows, head, place)
        head, place = made[-1][-1], place + len(made)
        if head.hex() != claimed:
            raise SystemExit("the chain does not hold")
        store(base, made)
        send(link, head)
    base.close()


class Author:
    def __init__(self, base, link):
        self.base, self.link, self.stream = base, link, link.makefile("rb")
        self.head, self.place, self.waiting = b"", 0, []

    def append(self, first, count):
        at = time.time_ns() // 1000
        rows = [(*record(n), at) for n in range(first, first + count)]
        made = chained(rows, self.head, self.place)
        self.head, self.place = made[-1][-1], self.place + count
        store(self.base, made)
        send(self.link, json.dumps([self.head.hex(), rows]).encode())
        self.waiting.append(self.head)

    def answered(self, open_):
        while len(self.waiting) > open_:
            if receive(self.stream) != self.waiting.pop(0):
                raise SystemExit("the other side has another chain")

    def load(self, first, count):
        for n in range(first, first + count, BATCH):
            self.answered(IN_FLIGHT - 1)
            self.append(n, min(BATCH, first + count - n))
        self.answered(0)

    def cpu(self):
        send(self.link, b"cpu")
        return [cpu(), json.loads(receive(self.stream))]


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def disk(file):
    return sum(part.stat().st_blocks * 512 for part in file.parent.glob(f"{file.name}*"))


def main(folder, records, singles):
    ours, theirs = Path(folder, "author.sqlite"), Path(folder, "consumer.sqlite")
    server = socket.create_server(("127.0.0.1", 0))
    arguments = (server.getsockname()[1], theirs)
    other = multiprocessing.Process(target=consumer, args=arguments, daemon=True)
    other.start()
    link, _ = server.accept()
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    author = Author(opened(ours), link)
    author.load(0, BATCH)  # warm up
    before, began = author.cpu(), time.perf_counter()
    author.load(BATCH, records)
    seconds, after = time.perf_counter() - began, author.cpu()
    taken = []
    for n in range(singles):
        began = time.perf_counter()
        author.append(BATCH + records + n, 1)
        author.answered(0)
        taken.append((time.perf_counter() - began) * 1000)
    last = author.cpu()
    author.base.close()
    author.stream.close()
    link.close()
    other.join()
    result = {
        "version": f"SQLite {sqlite3.sqlite_version}, Python's {sys.version.split()[0]} sqlite3",
        "held": BATCH + records + singles,
        "seconds": seconds,
        "cpu": [b - a for a, b in zip(before, after, strict=True)],
        "disk": [disk(ours), disk(theirs)],
        "single_ms": taken,
        "single_cpu": [b - a for a, b in zip(after, last, strict=True)],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
