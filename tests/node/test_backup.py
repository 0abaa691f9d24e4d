"""Backups of running nodes, homes made of them and of the seed alone, and what peers give back."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import nodes
import pytest
import trio

from tallystick.node import queries
from tallystick.node.backup import make_backup, restore_backup
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.doctor.child import examine_apart
from tallystick.node.errors import HomeError
from tallystick.node.home import Home, open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.rpc import RpcClient
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import index_key, index_of
from tallystick.protocol.errors import InputError
from tallystick.protocol.records import Epoch
from tallystick.protocol.statement import Line


@pytest.fixture(scope="module")
def home(busy: tuple[Home, Home]) -> Home:
    """The provider's home of a busy channel; not to be changed."""
    return busy[0]


@pytest.fixture(scope="module")
def backup(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it; not to be changed."""
    target = tmp_path_factory.mktemp("backup") / "b"
    make_backup(home, target, with_seed=True)
    return target


def test_a_backup_says_what_is_in_it_and_is_for_its_owner_only(home: Home, backup: Path) -> None:
    manifest = json.loads((backup / "manifest.json").read_text())
    assert set(manifest["files"]) == {
        "config.toml",
        "keys",
        "name",
        "seed",
        "store/data.mdb",
        "version",
    }
    assert (manifest["format"], manifest["party"]) == (1, "acme.example")
    [channel] = manifest["channels"]
    assert (channel["peer"], channel["own"]["size"], channel["theirs"]["size"]) == (
        "beta.example", 1270, 964,
    )  # fmt: skip
    assert channel["own"]["signed"]["size"] == 1269
    for path in (backup, *backup.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert (backup / "seed").read_bytes() == (home.path / "seed").read_bytes()


def test_a_backup_never_replaces_anything(home: Home, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(HomeError, match="something in"):
        make_backup(home, tmp_path / "there", with_seed=True)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_restored_home_holds_the_same_and_is_marked(
    home: Home, backup: Path, tmp_path: Path
) -> None:
    restore_backup(backup, tmp_path / "new", None)
    restored = open_home(tmp_path / "new")
    assert restored.identity() == home.identity()
    a, b = (Store(h.store_path, read_only=True) for h in (home, restored))
    with a.read() as before, b.read() as after:
        for table in ("channels", "peers", "logs", "batches", "heads", "checkpoints"):
            assert list(before.scan(table, b"", b"\xff" * 300)) == list(
                after.scan(table, b"", b"\xff" * 300)
            )
        assert after.get("meta", b"restored") is not None
    a.close()
    b.close()
    assert _lines(restored) == _lines(home)
    with pytest.raises(HomeError, match="there is a home"):
        restore_backup(backup, tmp_path / "new", None)


def test_what_is_kept_of_sessions_comes_back(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole sessions and notes of running ones; no links, nothing half done, nothing of others."""
    copy = Home(Path(shutil.copytree(home.path, tmp_path / "home")), home.name)
    known = {
        f"reconciled/{'a' * 64}/session.json": b"{}",
        f"reconciled/{'a' * 64}/rows.jsonl": bytes(3_000_000),
        f"reconciled/{'b' * 64}/session.json": b"x",
        f"reconciled/{'c' * 64}.opening": b"note",
    }
    no_part = [
        f"reconciled/{'a' * 64}/.rows.part",
        f"reconciled/.{'d' * 64}.abc/session.json",
        f"reconciled/.{'d' * 64}.opening",
        "reconciled/mine.txt",
        "reconciling/0123456789abcdef/rows",
    ]
    for name, data in [*known.items(), *((name, b"no") for name in no_part)]:
        (copy.path / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.path / name).write_bytes(data)
    (copy.path / "reconciled" / ("e" * 64)).symlink_to(tmp_path)
    (copy.path / "reconciled" / ("f" * 64 + ".opening")).symlink_to("/etc/hostname")
    (copy.path / "reconciled" / ("a" * 64) / "link").symlink_to("/etc/hostname")
    manifest = make_backup(copy, tmp_path / "b", with_seed=True)
    assert {name for name in manifest.files if "reconcil" in name} == known.keys()
    for path in (tmp_path / "b").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    restore_backup(tmp_path / "b", tmp_path / "new", None)
    for name, data in known.items():
        assert (tmp_path / "new" / name).read_bytes() == data
        assert stat.S_IMODE((tmp_path / "new" / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "new" / name).parent.stat().st_mode) == 0o700

    # A note whose session ends meanwhile is in the log; it leaves nothing behind.
    open_file = Path.open

    def gone(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.suffix == ".opening":
            path.unlink()
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", gone)
    later = make_backup(copy, tmp_path / "later", with_seed=True)
    assert {name for name in manifest.files if name not in later.files} == {
        f"reconciled/{'c' * 64}.opening"
    }


def _lines(home: Home) -> list[Line]:
    books = Books.open(home, read_only=True)
    lines = [line for _, closer in books.channels.values() for line in closer.all_lines()]
    books.close()
    return lines


def test_what_is_half_written_in_a_home_is_in_no_backup(home: Home, tmp_path: Path) -> None:
    """A private key for a moment, secrets of webhooks for ever if a kill came between."""
    copy = Home(Path(shutil.copytree(home.path, tmp_path / "home")), home.name)
    for name in (".tls-abc", ".webhooks.json.abc", "mine.txt"):
        (copy.path / name).write_text("secret")
    files = make_backup(copy, tmp_path / "b", with_seed=False).files
    assert "mine.txt" in files
    assert not {name for name in files if name.startswith(".")}


def test_without_its_seed_a_backup_needs_the_right_one(home: Home, tmp_path: Path) -> None:
    manifest = make_backup(home, tmp_path / "b", with_seed=False)
    assert not manifest.has_seed
    assert not (tmp_path / "b" / "seed").exists()
    with pytest.raises(InputError, match="without its seed"):
        restore_backup(tmp_path / "b", tmp_path / "new", None)
    (tmp_path / "wrong").write_text("77" * 32)
    with pytest.raises(InputError):
        restore_backup(tmp_path / "b", tmp_path / "new", tmp_path / "wrong")
    assert not (tmp_path / "new").exists()
    restore_backup(tmp_path / "b", tmp_path / "new", home.path / "seed")
    assert open_home(tmp_path / "new").identity() == home.identity()


def _change_byte(folder: Path) -> str:
    data = bytearray((folder / "store" / "data.mdb").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "store" / "data.mdb").write_bytes(data)
    return "data.mdb is damaged"


def _lose_file(folder: Path) -> str:
    (folder / "config.toml").unlink()
    return "config.toml is missing"


def _add_file(folder: Path) -> str:
    (folder / "store" / "more").touch()
    return "more is not of this backup"


def _cut_manifest(folder: Path) -> str:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])
    return "manifest.json is damaged"


def _newer(folder: Path) -> str:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"format": 1', '"format": 2'))
    return "format 2"


def _elsewhere(folder: Path) -> str:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"config.toml"', '"../config.toml"'))
    return "is not of a backup"


def _of_another(folder: Path) -> str:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("acme.example", "gamma.example"))
    return "the backup is of acme.example"


@pytest.mark.parametrize(
    "spoil",
    [_change_byte, _lose_file, _add_file, _cut_manifest, _newer, _elsewhere, _of_another],
)
def test_a_spoilt_backup_makes_no_home(backup: Path, tmp_path: Path, spoil: Any) -> None:
    shutil.copytree(backup, tmp_path / "b")
    said = spoil(tmp_path / "b")
    with pytest.raises(InputError) as raised:
        restore_backup(tmp_path / "b", tmp_path / "new", None)
    assert said in raised.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_backup_whose_records_do_not_hold_makes_no_home(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.path, tmp_path / "home")
    store = Store(tmp_path / "home" / "store")

    def spoil(txn: Any) -> None:
        key, value = next(txn.scan("tiles", b"", b"\xff" * 20))
        txn.put("tiles", key, bytes(len(value)))

    store.commit_now(spoil)
    store.close()
    make_backup(open_home(tmp_path / "home"), tmp_path / "b", with_seed=True)
    with pytest.raises(InputError, match=r"acme\.example: tiles"):
        restore_backup(tmp_path / "b", tmp_path / "new", None)
    assert not (tmp_path / "new").exists()


# With real nodes: each test damages one of them, and leaves both whole


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nodes.Party, nodes.Party]]:
    """Two running nodes with a channel."""
    with nodes.channel(tmp_path_factory.mktemp("parties")) as pair:
        yield pair


Parties = tuple[nodes.Party, nodes.Party]
AT_US = 1_767_607_200_000_000  # 2026-01-05T10:00:00Z


def _ask(party: nodes.Party, method: str, **params: object) -> Any:
    """Ask the running node, without starting a command line for it."""

    async def ask() -> Any:
        async with RpcClient.connect(open_home(party.home)) as client:
            return await client.call(method, **params)

    return trio.run(ask)


@contextmanager
def _reading(party: nodes.Party) -> Iterator[tuple[Channel, Closer]]:
    """The party's channel, read from its store."""
    books = Books.open(open_home(party.home), read_only=True)
    try:
        yield books.channels[books.select(None)]
    finally:
        books.close()


def _emit(party: nodes.Party, *ids: str, at_us: int = AT_US, wait: bool = True) -> None:
    """Record deltas of 3, one after the other."""
    for id_ in ids:
        drafts = msgspec.msgpack.encode([Draft(id_, "context-tokens", "s", 3, at_us)])
        size = _ask(party, "emit", channel=None, drafts=drafts)["size"]
        if wait:
            _ask(party, "wait", channel=None, size=size, seconds=30)


def _doubt(party: nodes.Party) -> int:
    [channel] = _ask(party, "recovery").values()
    doubt: int = channel["doubt"]
    return doubt


def _certain(*parties: nodes.Party) -> None:
    """Return once nothing is in doubt, and both derive the same."""
    for party in parties:
        nodes.wait_until(lambda party=party: _doubt(party) == 0)  # type: ignore[misc]
    nodes.wait_until(lambda: _derived(parties[0]) == _derived(parties[1]))


def _derived(party: nodes.Party) -> dict[str, Any]:
    with _reading(party) as (channel, closer):
        return queries.derive(channel, closer)


def _indexes(party: nodes.Party, id_: str) -> list[int]:
    with _reading(party) as (channel, _):
        return [index for _, index, _ in queries.find_delta(channel, id_)]


def _sound(party: nodes.Party) -> None:
    home = open_home(party.home)
    checks = examine_apart(home.store_path, home.path / "ids", home.name)
    assert [check for check in checks if not check.ok] == []


def test_a_backup_of_a_running_node_is_restored_and_catches_up(
    parties: Parties, tmp_path: Path
) -> None:
    acme, beta = parties
    _emit(acme, "b-1")
    [first] = _indexes(acme, "b-1")
    made = acme.json("backup", "-o", str(tmp_path / "b"))
    assert made["seed"]
    _emit(acme, "b-2", "b-3")
    acme.kill()
    beta.stop()
    shutil.rmtree(acme.home)
    restored = acme.json("restore", str(tmp_path / "b"))
    assert restored["channels"][0]["own"] == first + 1
    acme.start()
    # Recorded before the peer answered: once it has, each is in the log once, and what contradicts
    # what came back is kept with its reason.
    _emit(acme, "b-4", "b-3", wait=False)
    _emit(acme, "b-2", at_us=AT_US + 1, wait=False)
    assert _doubt(acme) == 1
    beta.start()
    _certain(acme, beta)
    _emit(acme, "b-5")
    found = [_indexes(beta, f"b-{n}") for n in range(1, 6)]
    assert found == [[first + n] for n in range(5)]
    [channel] = acme.json("recover")["channels"]
    assert channel["own"] == {"here": first + 5, "peer": first + 5}
    assert (channel["doubt"], channel["aside"], channel["needs_agreement"]) == (0, 0, False)
    assert [row["record"] for row in channel["unplaced"]] == ["delta context-tokens/b-2"]
    _sound(acme)


def test_a_home_comes_back_from_its_seed_alone(parties: Parties, tmp_path: Path) -> None:
    acme, beta = parties
    _emit(acme, "s-0", "s-1", at_us=AT_US)
    acme.tally("correct", "context-tokens/s-0", "--quantity", "7", "--reason", "miscounted")
    acme.tally("checkpoint", "2026-01-05T10", "--force")
    _emit(acme, "s-2", at_us=AT_US + 3_600_000_000)
    _certain(acme, beta)
    before = _derived(acme)
    shutil.copy(acme.home / "seed", tmp_path / "seed")
    acme.kill()
    shutil.rmtree(acme.home)
    acme.tally("recover", "--name", "acme.example", "--seed-file", str(tmp_path / "seed"))
    acme.start()
    assert acme.json("recover") == {"running": True, "channels": []}
    acme.tally("join", _ask(beta, "invite", lifetime_seconds=60)["code"])
    nodes.wait_until(lambda: bool(_ask(acme, "recovery")))
    _certain(acme, beta)
    assert _derived(acme) == before
    _emit(acme, "s-3", at_us=AT_US + 3_600_000_000)
    _certain(acme, beta)
    with _reading(acme) as (_, closer):
        assert [row.period for row in closer.rows] == ["2026-01-05T10"]
    _sound(acme)


def test_both_homes_from_old_backups_go_on_when_both_agree(
    parties: Parties, tmp_path: Path
) -> None:
    acme, beta = parties
    _emit(acme, "both-1")
    refused = acme.tally("recover", "--agree", check=False)
    assert (refused.returncode, "nothing is in doubt" in refused.stderr) == (2, True)
    for party in (acme, beta):
        party.tally("backup", "-o", str(tmp_path / party.name))
    _emit(acme, "both-2")
    for party in (acme, beta):
        party.kill()
        shutil.rmtree(party.home)
        party.tally("restore", str(tmp_path / party.name))
    acme.start()
    alone = acme.tally("recover", "--agree", check=False)
    assert (alone.returncode, "has not said yet" in alone.stderr) == (3, True)
    beta.start()
    nodes.wait_until(lambda: all(c["peer"] for c in _ask(acme, "recovery").values()))
    _emit(acme, "both-3", wait=False)
    assert acme.json("recover")["channels"][0]["needs_agreement"]
    acme.tally("recover", "--agree")
    again = acme.tally("recover", "--agree", check=False)
    assert (again.returncode, "agreed already" in again.stderr) == (2, True)
    assert "going on" not in acme.tally("recover").stdout
    nodes.wait_until(
        lambda: [c["peer"] and c["peer"]["doubt"] for c in _ask(beta, "recovery").values()] == [2]
    )
    beta.tally("recover", "--agree")
    _certain(acme, beta)
    _emit(acme, "both-4")
    _certain(acme, beta)
    for party in (acme, beta):
        with _reading(party) as (channel, _):
            for log in (channel.own, channel.peer):
                kinds = [
                    type(r) for _, records in log.records(0, log.durable_size) for r in records
                ]
                assert kinds.count(Epoch) == 1
        _sound(party)
    assert len(_indexes(beta, "both-3")) == 1
    with pytest.raises(InputError, match="no delta"):
        _indexes(acme, "both-2")


@pytest.mark.parametrize("whose", ["own", "theirs"])
def test_a_mended_log_is_made_whole_by_the_peer(parties: Parties, whose: str) -> None:
    acme, beta = parties
    _emit(acme, *(f"{whose}-{n}" for n in range(3)))
    _certain(acme, beta)
    victim = acme if whose == "own" else beta
    beta.stop()
    _emit(acme, f"{whose}-tail", wait=False)  # the peer has not seen it
    before = _derived(acme)
    acme.stop()
    damaged = _damage(victim.home, 3, 0 if whose == "own" else 1)  # a closed period counts it
    found = victim.tally("doctor", check=False)
    said = " ".join(found.stdout.split())
    assert (found.returncode, found.stderr.count("Traceback")) == (1, 0)
    assert f"record {damaged}: the batch that begins with it is damaged" in said
    assert "checkpoint 2026-01-05T10" in said
    mended = victim.tally("doctor", "--mend")
    assert f"cut back to {damaged} records" in " ".join(mended.stdout.split())
    acme.start()
    refused = acme.tally("doctor", "--mend", check=False)
    assert (refused.returncode, "in use by" in " ".join(refused.stderr.split())) == (2, True)
    beta.start()
    _certain(acme, beta)
    _emit(acme, f"{whose}-last")
    _certain(acme, beta)
    closed = [line for line in before["lines"] if line["period"] == "2026-01-05T10"]
    for party in (acme, beta):
        lines = _derived(party)["lines"]
        assert [line for line in lines if line["period"] == "2026-01-05T10"] == closed
        assert len(_indexes(party, f"{whose}-tail")) == 1
        _sound(party)


def _damage(home: Path, index: int, log: int) -> int:
    """Flip a byte of the batch with the record at an index; the batch's first index."""
    store = Store(home / "store")
    with store.read() as txn:
        found = txn.floor("batches", index_key(log, index))
    assert found is not None
    key = found[0]

    def spoil(txn: Txn) -> None:
        stored = bytearray(txn.raw("batches", key))
        stored[10] ^= 1
        txn.put_raw("batches", key, bytes(stored))

    store.commit_now(spoil)
    store.close()
    return index_of(key)


def test_a_damaged_store_gives_a_sentence_and_no_traceback(home: Home, tmp_path: Path) -> None:
    party = nodes.Party(tmp_path, "home")
    shutil.copytree(home.path, party.home)
    good = (party.home / "store" / "data.mdb").read_bytes()
    newest = max(0, 4096, key=lambda page: int.from_bytes(good[page + 144 : page + 152], "little"))
    for at, flip in ((16, 1), (newest + 96, 0x80)):  # a magic number, a tree's count of pages
        data = bytearray(good)
        data[at] ^= flip
        (party.home / "store" / "data.mdb").write_bytes(data)
        done = party.tally("doctor", check=False)
        assert (done.returncode, done.stderr.count("Traceback")) == (1, 0), at
        assert "FAIL" in done.stdout
        copied = party.tally("backup", "-o", str(tmp_path / "b"), check=False)
        assert (copied.returncode, copied.stderr.count("Traceback")) == (3, 0), at
        assert "damaged" in copied.stderr
        assert not (tmp_path / "b").exists()
    (party.home / "store" / "data.mdb").write_bytes(b"garbage" * 4096)
    done = party.tally("doctor", "--mend", check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (3, 0)
    assert "tally recover" in " ".join(done.stderr.split())


def test_a_wrong_seed_makes_no_home(tmp_path: Path) -> None:
    party = nodes.Party(tmp_path, "acme.example")
    (tmp_path / "seed").write_text("00" * 31)
    for options, said in (
        (("--name", "acme.example"), "--name and --seed-file"),
        (("--name", "acme.example", "--seed-file", str(tmp_path / "seed")), "does not hold a seed"),
        (("--name", "acme.example", "--seed-file", str(tmp_path / "none")), "cannot be read"),
    ):
        done = party.tally("recover", *options, check=False)
        assert (done.returncode, said in " ".join(done.stderr.split())) == (2, True)
    assert not party.home.exists()
