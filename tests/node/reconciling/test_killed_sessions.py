"""Nodes that are killed in a session: what may have been opened is in their logs, once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodes
import pytest

from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.reconciling import disclosing
from tallystick.node.reconciling.disclosing import Opened
from tallystick.protocol.messages import PAGE_ROWS
from tallystick.protocol.records import Disclosure

# A node that kills itself at the point that a file in its home names: the real thing, with SIGKILL.
CODE = """
import os, signal, sys
from pathlib import Path
from tallystick.node.reconciling import disclosing, kept

home = Path(sys.argv[sys.argv.index("--home") + 1])
notes = []

def die_at(point):
    file = home / "die"
    if file.exists() and file.read_text() == point:
        os.kill(os.getpid(), signal.SIGKILL)

def wrap(module, name, before, after=lambda *arguments: ""):
    real = getattr(module, name)
    def wrapped(*arguments):
        die_at(before)
        done = real(*arguments)
        die_at(after(*arguments))
        return done
    setattr(module, name, wrapped)

def noted(home, opened):
    notes.append(opened.session)
    return f"note {notes.count(opened.session)}"

wrap(disclosing, "note", "before note", noted)
wrap(disclosing, "forget", "before forgetting")
wrap(kept, "keep", "before keeping")
from tallystick.node.cli import main
main()
"""
ROWS = 3000
DIFFERENT = 2 * PAGE_ROWS + 10  # of each side's: three pages
START_MS = 1_749_945_600_000  # 2025-06-15
MAP = """\
time = { column = "time", unit = "ms" }
id = { column = "id" }
subject = { column = "subject" }
[[meter]]
meter = "context-tokens"
quantity = { column = "quantity" }
"""


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nodes.Party, nodes.Party]]:
    """Two running nodes with an open channel that die when they are told."""
    with nodes.channel(tmp_path_factory.mktemp("mortal"), code=CODE) as parties:
        yield parties


class Session:
    """A session of an hour of its own, in which one party is killed."""

    def __init__(
        self, asker: nodes.Party, consenter: nodes.Party, folder: Path, hour: int, different: int
    ) -> None:
        self.asker, self.consenter = asker, consenter
        (folder / "map.toml").write_text(MAP)
        self.period = f"2025-06-15T{hour:02}"
        self.start_ms = START_MS + hour * 3_600_000
        self.options = ("--period", self.period, "--map", str(folder / "map.toml"))
        self.files = [folder / "ours.csv", folder / "theirs.csv"]
        for side, file in enumerate(self.files):
            lines = [
                f"{self.start_ms + n},{'xy'[side] if n < different else ''}r{n},p,{n}\n"
                for n in range(ROWS)
            ]
            file.write_text("time,id,subject,quantity\n" + "".join(lines))

    def run(self, victim: nodes.Party, point: str) -> None:
        """Hold it, until the victim dies at the point."""
        connected(self.asker)
        self.consenter.tally("reconcile", "--offer", str(self.files[1]), *self.options)
        (victim.home / "die").write_text(point)
        asking = self.asker.command(
            "reconcile", self.consenter.name, str(self.files[0]), *self.options
        )
        with subprocess.Popen(asking, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
            buried(victim)
            asked.communicate(timeout=nodes.START_SECONDS)

    def disclosures(self, party: nodes.Party) -> list[Disclosure]:
        """What the party's log says of it."""
        return [one for one in _disclosures(party) if one.period == self.period]

    def kept(self, party: nodes.Party) -> Any:
        """What the party keeps of it."""
        files = (party.home / "reconciled").glob("*/session.json")
        found = [json.loads(file.read_text()) for file in files]
        return next((one for one in found if one["about"]["period"] == self.period), None)

    def held(self, party: nodes.Party) -> list[str]:
        """The sets of rows that the party has prepared for it."""
        files = (party.home / "reconciling").glob("*/about.json")
        return [str(file) for file in files if f'"{self.period}"' in file.read_text()]


def _disclosures(party: nodes.Party) -> list[Disclosure]:
    books = Books.open(open_home(party.home), read_only=True)
    try:
        own = next(iter(books.channels.values()))[0].own
        said = [record for _, record in own.matters(own.durable_size)]
        return [record for record in said if isinstance(record, Disclosure)]
    finally:
        books.close()


def connected(party: nodes.Party) -> None:
    """Return when it has its peer again."""
    nodes.wait_until(lambda: party.json("status")["channels"][0]["connected"])


def buried(party: nodes.Party) -> None:
    """Return when its node has died of SIGKILL."""
    assert party.process is not None and party.process.stdout is not None
    assert party.process.wait(nodes.START_SECONDS) == -9
    party.process.stdout.close()
    party.process = None


def _left(party: nodes.Party) -> list[str]:
    """What is half done in the home: notes of sessions, and things not yet whole."""
    folder = party.home / "reconciled"
    return [path.name for path in (*folder.glob("*.opening"), *folder.glob(".*"))]


def _restart(party: nodes.Party) -> None:
    """Start it, to live, and wait until it has recorded what was left."""
    (party.home / "die").unlink(missing_ok=True)
    party.start()
    nodes.wait_until(lambda: not _left(party))


POINTS = [
    ("before note", 0),
    ("note 1", PAGE_ROWS),
    ("note 2", 2 * PAGE_ROWS),
    ("before keeping", DIFFERENT),
    ("before forgetting", DIFFERENT),
]
WHO = ["asker", "consenter"]


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("point", POINTS)
def test_what_may_have_been_opened_is_in_the_log_once(
    mortal: tuple[nodes.Party, nodes.Party],
    tmp_path: Path,
    point: tuple[str, int],
    who: str,
) -> None:
    hour = 2 * POINTS.index(point) + WHO.index(who)
    session = Session(*mortal, tmp_path, hour, DIFFERENT)
    victim, other = mortal if who == "asker" else mortal[::-1]
    name, opened = point
    session.run(victim, name)
    _restart(victim)
    # An offer is used up once a row may have been shown.
    offers = session.consenter.json("reconcile", "--list")["offers"]
    stands = who == "consenter" and not opened
    assert [offer["period"] for offer in offers] == [session.period] * stands
    if stands:
        victim.tally("reconcile", "--withdraw", offers[0]["offer"])
    assert opened == 0 or not session.held(victim)
    found = session.disclosures(victim)
    assert [record.opened for record in found] == [opened] * (opened > 0)
    nodes.wait_until(lambda: session.kept(other))
    kept = session.kept(other)
    assert kept["opened_theirs"] <= opened
    for record in found:
        assert record.session.hex() == kept["session"]
        assert record.received <= kept["opened_ours"]
        if kept["opened_theirs"] == opened:
            assert record.digest.hex() == kept["received_digest"]
    opened_there = [record.opened for record in session.disclosures(other)]
    assert opened_there == [kept["opened_ours"]] * bool(opened_there)
    assert opened_there or not kept["opened_theirs"]


def test_kills_without_end_record_it_once(
    mortal: tuple[nodes.Party, nodes.Party], tmp_path: Path
) -> None:
    session = Session(*mortal, tmp_path, 20, 3)
    victim = mortal[1]
    session.run(victim, "note 1")
    (victim.home / "die").write_text("before forgetting")
    for _ in range(3):
        victim.launch()
        buried(victim)
        assert len(session.disclosures(victim)) == 1
    _restart(victim)
    [record] = session.disclosures(victim)
    assert (record.opened, record.received) == (3, 3)
    # Co-signed like any other record, and what is said in it goes on.
    again = Session(*mortal, tmp_path, 21, 3)
    again.consenter.tally("reconcile", "--offer", str(again.files[1]), *again.options)
    connected(mortal[0])
    again.asker.tally("reconcile", again.consenter.name, str(again.files[0]), *again.options)
    assert len(again.disclosures(victim)) == 1


def _opened(**fields: Any) -> Opened:
    known = {"channel": "0" * 64, "session": "1" * 64, "digest": "2" * 64, "prepared": "3" * 16}
    counts = {"opened": 1, "received": 2}
    return Opened(**{**known, **counts, "peer": "beta.example", "period": "2025-06", **fields})


def test_a_note_that_cannot_be_read_stops_no_start(tmp_path: Path) -> None:
    assert disclosing.left(tmp_path) == []
    disclosing.note(tmp_path, _opened())
    disclosing.note(tmp_path, _opened(opened=7))
    disclosing.note(tmp_path, _opened(session="4" * 64))
    folder = tmp_path / "reconciled"
    (folder / f"{'4' * 64}.opening").write_text('{"channel": "../..", "prepared": ""}')
    (folder / f".{'5' * 64}.opening").write_text("{")
    (folder / f".{'5' * 64}.abc").mkdir()
    (folder / f".{'6' * 40}.abc").write_text("{")  # as a note that a kill cut off
    (folder / ".mine").write_text("kept")
    assert disclosing.left(tmp_path) == [_opened(opened=7)]
    assert {path.name[0] for path in folder.glob(".*")} == {"."}
    assert [path.name for path in folder.glob(".*")] == [".mine"]
    disclosing.forget(tmp_path, _opened())
    disclosing.forget(tmp_path, _opened())
    assert disclosing.left(tmp_path) == []
