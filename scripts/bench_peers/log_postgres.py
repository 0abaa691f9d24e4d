"""Two PostgreSQL clusters, the provider's and the consumer's, with logical replication between.

python log_postgres.py FOLDER RECORDS SINGLES replicated|acknowledged

Needs PostgreSQL's programs (`apt-get install postgresql`) and `pip install "psycopg[binary]"
cryptography`. As root the clusters run as the user postgres.

A table of records with unique (meter, id) and a hash chain, which the driver makes: the database
would need a trigger that reads the last row for each. Batches come by COPY, single records by
INSERT, each its own transaction; fsync and synchronous_commit are on at both clusters.
`replicated`: the last commit of a load, and each single one, waits until the consumer's cluster
has it on disk, too. `acknowledged`: besides, the author signs the chain's end with each batch, a
program of the consumer's recomputes the chain and signs its end, and this acknowledgement comes
back by replication; the author waits for it. Prints one line of JSON.
"""

import collections
import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

BATCH = 4096
IN_FLIGHT = 6
START_US = 1_700_000_000_000_000
TICK = os.sysconf("SC_CLK_TCK")
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
fsync = on
synchronous_commit = on
shared_buffers = 256MB
max_wal_size = 4GB
"""
TABLES = """
CREATE TABLE records (
    place bigint PRIMARY KEY, meter text NOT NULL, id text NOT NULL, subject text NOT NULL,
    quantity bigint NOT NULL, occurred_at bigint NOT NULL, recorded_at bigint NOT NULL,
    hash bytea NOT NULL, UNIQUE (meter, id));
CREATE TABLE batches (size bigint PRIMARY KEY, hash bytea NOT NULL, signature bytea NOT NULL);
CREATE TABLE acknowledgements (LIKE batches INCLUDING ALL);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify(TG_TABLE_NAME, NEW.size::text); RETURN NULL; END $$;
CREATE TRIGGER tell AFTER INSERT ON batches FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TRIGGER tell AFTER INSERT ON acknowledgements FOR EACH ROW EXECUTE FUNCTION tell();
ALTER TABLE batches ENABLE REPLICA TRIGGER tell;
ALTER TABLE acknowledgements ENABLE REPLICA TRIGGER tell;
"""
COLUMNS = "place, meter, id, subject, quantity, occurred_at, recorded_at"
TYPES = ["int8", "text", "text", "text", "int8", "int8", "int8", "bytea"]
INSERT = "INSERT INTO records VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
LISTENS = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN batches'"
END = "SELECT place + 1, hash FROM records ORDER BY place DESC LIMIT 1"


class Cluster:
    """A cluster of its own, stopped at the end."""

    def __init__(self, folder, stack):
        self.folder = folder
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": ()}
        self.user = self.user if os.geteuid() == 0 else {}
        init = ["initdb", "-D", folder, "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        self.run([*init, "--locale=C", "--no-sync"], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        with (folder / "postgresql.conf").open("a") as file:
            file.write(f"{SETTINGS}port = {self.port}\n")
        self.process = self.start(["postgres", "-D", folder])
        stack.callback(self.stop)
        self.url = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        for tries in range(100):
            try:
                self.base = self.connect()
                break
            except psycopg.OperationalError:
                if tries == 99 or self.process.poll() is not None:
                    raise
                time.sleep(0.1)
        self.base.execute(TABLES)

    def arguments(self, command):
        return {"args": [programs() / command[0], *command[1:]], "cwd": "/", **self.user}

    def run(self, command, **options):
        log = self.folder.parent / "output"
        with log.open("a") as out:
            subprocess.run(**self.arguments(command), stdout=out, stderr=out, **options)

    def start(self, command):
        with (self.folder.parent / "output").open("a") as out:
            return subprocess.Popen(**self.arguments(command), stdout=out, stderr=out)

    def connect(self):
        return psycopg.connect(self.url, autocommit=True)

    def cpu(self):
        """Of all processes of the cluster, those that ended included."""
        total = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended
            if self.process.pid in (int(stat.parent.name), int(fields[1])):
                total += sum(map(int, fields[11:15]))
        return total / TICK

    def disk(self):
        """Of the tables with their indexes; the log that it writes first (WAL) is not in it."""
        names = ("records", "batches", "acknowledgements")
        query = "SELECT pg_total_relation_size(%s::regclass)"
        return sum(self.base.execute(query, [name]).fetchone()[0] for name in names)

    def wal(self):
        query = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
        return self.base.execute(query).fetchone()[0]

    def stop(self):
        self.process.send_signal(signal.SIGINT)  # without waiting for who is connected
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def programs():
    found = shutil.which("initdb")
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: p.parts[4])
    if not found and not homes:
        raise SystemExit("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return homes[-1].parent if homes else Path(found).parent


def record(n):
    id_, subject = f"request-{n:012}-{'x' * 60}", f"project-{n % 50:03}-{'y' * 48}"
    return "context-tokens", id_, subject, n % 5000, START_US + n * 100


def link(before, row):
    """The hash of a row, which hangs on the one before."""
    return hashlib.sha256(before + "\x1f".join(map(str, row)).encode()).digest()


def cpu_of(process):
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def consumer(url, key, author):
    """The consumer's program: recompute what each batch adds to the chain, and sign its end."""
    key = Ed25519PrivateKey.from_private_bytes(key)
    author = Ed25519PublicKey.from_public_bytes(author)
    base, listener = (psycopg.connect(url, autocommit=True) for _ in range(2))
    listener.execute("LISTEN batches")
    head, size = b"", 0
    query = f"SELECT {COLUMNS} FROM records WHERE place >= %s AND place < %s ORDER BY place"
    signed = "SELECT hash, signature FROM batches WHERE size = %s"
    answer = "INSERT INTO acknowledgements VALUES (%s, %s, %s)"
    for notice in listener.notifies():
        new = int(notice.payload)
        rows = base.execute(query, (size, new), binary=True).fetchall()
        for row in rows:
            head = link(head, row)
        hash_, signature = base.execute(signed, (new,), binary=True).fetchone()
        author.verify(signature, statement(new, hash_))
        if len(rows) != new - size or hash_ != head:
            raise SystemExit("the chain does not hold")
        size = new
        base.execute(answer, (size, head, key.sign(statement(size, head))))


def statement(size, head):
    return b"records %d " % size + head


class Author:
    """The provider's program."""

    def __init__(self, cluster, key, consumer, acknowledged):
        self.base, self.listener = cluster.connect(), cluster.connect()
        self.key, self.consumer, self.acknowledged = key, consumer, acknowledged
        self.head, self.place, self.waiting = b"", 0, collections.deque()
        if acknowledged:
            self.listener.execute("LISTEN acknowledgements")

    def append(self, first, count, wait):
        """One transaction. Unless `wait`, its commit waits for the disk of this side alone."""
        at, rows = time.time_ns() // 1000, []
        for place, n in enumerate(range(first, first + count), self.place):
            row = (place, *record(n), at)
            self.head = link(self.head, row)
            rows.append((*row, self.head))
        self.place += count
        with self.base.transaction(), self.base.cursor() as cursor:
            if self.acknowledged or not wait:
                cursor.execute("SET LOCAL synchronous_commit = local")
            if count == 1:
                cursor.execute(INSERT, rows[0])
            else:
                with cursor.copy("COPY records FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(TYPES)
                    for row in rows:
                        copy.write_row(row)
            if self.acknowledged:
                signed = self.key.sign(statement(self.place, self.head))
                values = (self.place, self.head, signed)
                cursor.execute("INSERT INTO batches VALUES (%s, %s, %s)", values)
                self.waiting.append((self.place, self.head))

    def answered(self, open_):
        """Wait until no more than so many batches have no acknowledgement, and check them."""
        query = "SELECT hash, signature FROM acknowledgements WHERE size = %s"
        while len(self.waiting) > open_:
            heard = list(self.listener.notifies(timeout=60, stop_after=1))
            if not heard:
                raise SystemExit("no acknowledgement within a minute")
            for notice in heard:
                size, head = self.waiting.popleft()
                hash_, signature = self.base.execute(query, (size,), binary=True).fetchone()
                self.consumer.verify(signature, statement(size, hash_))
                if int(notice.payload) != size or hash_ != head:
                    raise SystemExit("the other side has another chain")

    def load(self, first, count):
        for n in range(first, first + count, BATCH):
            self.answered(IN_FLIGHT - 1)
            many = min(BATCH, first + count - n)
            self.append(n, many, wait=n + many == first + count)
        self.answered(0)


def subscribe(publisher, subscriber, name, tables):
    publisher.base.execute(f"CREATE PUBLICATION {name} FOR TABLE {tables}")
    subscriber.base.execute(
        f"CREATE SUBSCRIPTION {name} CONNECTION '{publisher.url}' PUBLICATION {name}"
        " WITH (synchronous_commit = local)"
    )
    query = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'"
    while subscriber.base.execute(query).fetchone()[0]:
        time.sleep(0.05)


def main(folder, records, singles, mode, stack):
    acknowledged = mode == "acknowledged"
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    ours, theirs = (Cluster(folder / name, stack) for name in ("provider", "consumer"))
    subscribe(ours, theirs, "usage", "records, batches")
    subscribe(theirs, ours, "answers", "acknowledgements")
    ours.base.execute("ALTER SYSTEM SET synchronous_standby_names = 'usage'")
    ours.base.execute("SELECT pg_reload_conf()")
    processes = [[os.getpid()], []]
    if acknowledged:
        public = keys[0].public_key().public_bytes_raw()
        arguments = (theirs.url, keys[1].private_bytes_raw(), public)
        other = multiprocessing.get_context("spawn").Process(target=consumer, args=arguments)
        other.start()
        stack.callback(other.terminate)
        processes[1].append(other.pid)
        while not theirs.base.execute(LISTENS).fetchone()[0]:
            time.sleep(0.05)
    author = Author(ours, keys[0], keys[1].public_key(), acknowledged)

    def used():
        programs = [sum(map(cpu_of, those)) for those in processes]
        return [programs[0] + ours.cpu(), programs[1] + theirs.cpu()]

    author.load(0, BATCH)  # warm up
    before, wal, began = used(), ours.wal(), time.perf_counter()
    author.load(BATCH, records)
    seconds, after, wal = time.perf_counter() - began, used(), ours.wal() - wal
    taken = []
    for n in range(singles):
        began = time.perf_counter()
        author.append(BATCH + records + n, 1, wait=True)
        author.answered(0)
        taken.append((time.perf_counter() - began) * 1000)
    last, held = used(), BATCH + records + singles
    if (held, author.head) != theirs.base.execute(END, binary=True).fetchone():
        raise SystemExit("the copies differ")
    version = ours.base.execute("SHOW server_version").fetchone()[0].split()[0]
    return {
        "version": f"PostgreSQL {version}, psycopg {psycopg.__version__}",
        "held": held,
        "seconds": seconds,
        "cpu": [b - a for a, b in zip(before, after, strict=True)],
        "disk": [ours.disk(), theirs.disk()],
        "wal": wal / records,
        "single_ms": taken,
        "single_cpu": [b - a for a, b in zip(after, last, strict=True)],
    }


def run(folder, records, singles, mode):
    own = Path(folder)
    if os.geteuid() == 0:  # FOLDER is closed to the user that the clusters run as
        own = Path(tempfile.mkdtemp(prefix="tallystick-bench-postgres-"))
        shutil.chown(own, "postgres", "postgres")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with contextlib.ExitStack() as stack:
            result = main(own, records, singles, mode, stack)
    except BaseException:
        if (output := own / "output").exists():
            print(output.read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        if own != Path(folder):
            shutil.rmtree(own)
    print(json.dumps(result))


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
