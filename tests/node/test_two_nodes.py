"""Two real node processes over real TLS: the whole way, and what goes wrong on it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import disks
import nodes
import pytest

from tallystick.protocol.pairing import parse_invite

MAP = """\
time = { column = "time" }
id = { column = "id" }
subject = { value = "s" }
[[meter]]
meter = "context-tokens"
quantity = { column = "q" }
"""

Pair = tuple[nodes.Party, nodes.Party]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes of this file's own, for it closes periods."""
    with nodes.channel(tmp_path_factory.mktemp("pair")) as parties:
        yield parties


def _write(folder: Path, rows: list[str], header: str = "time,id,q") -> tuple[str, str]:
    """An export and its mapping; their paths."""
    (folder / "export.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "map.toml").write_text(MAP)
    return str(folder / "export.csv"), str(folder / "map.toml")


def _emit(party: nodes.Party, id_: str, quantity: int = 1, at: str = "2026-01-05T10:00:00Z") -> int:
    answer = party.json(
        "emit", "context-tokens", str(quantity), "--subject", "s", "--id", id_, "--at", at, "--wait"
    )
    index: int = answer["index"]
    return index


def _derived_alike(acme: nodes.Party, beta: nodes.Party) -> tuple[Any, Any]:
    """What both derive once both have on the disk what they told each other: who waited for a
    co-signature was told of it before, and a line's status is by what is on the disk.
    """
    nodes.wait_until(lambda: acme.json("derive") == beta.json("derive"))
    return acme.json("derive"), beta.json("derive")


def test_an_emit_is_cosigned_and_derived_alike(pair: Pair) -> None:
    acme, beta = pair
    first = _emit(acme, "alike-1", 5)
    assert _emit(acme, "alike-1", 5) == first
    mine, theirs = _derived_alike(acme, beta)
    assert mine["digest"] == theirs["digest"]
    assert mine["lines"] == theirs["lines"]
    assert mine["heads"] == theirs["heads"]


def test_the_same_id_with_other_content_is_a_conflict_that_shows_both(pair: Pair) -> None:
    acme, _ = pair
    _emit(acme, "conflict-1", 5)
    again = acme.tally(
        "emit", "context-tokens", "6", "--subject", "s", "--id", "conflict-1",
        "--at", "2026-01-05T10:00:00Z", check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert "recorded 5 for s" in " ".join(again.stderr.split())
    assert "now 6 for s at 2026-01-05T10:00:00.000000Z" in " ".join(again.stderr.split())


def test_an_import_twice_records_nothing_twice(pair: Pair, tmp_path: Path) -> None:
    acme, beta = pair
    export, mapping = _write(tmp_path, [f"2026-02-01 00:00:0{n},im-{n},{n}" for n in range(9)])
    first = acme.json("import", export, "--map", mapping, "--wait")
    assert (first["read"], first["recorded"], first["duplicate"]) == (9, 9, 0)
    second = acme.json("import", export, "--map", mapping)
    assert (second["recorded"], second["duplicate"], second["rejected"]) == (0, 9, 0)
    lines = beta.json("derive", "--period", "2026-02-01T00")["lines"]
    assert [(line["payable"], line["deltas"]) for line in lines] == [("36", 9)]


def test_rejected_rows_go_to_a_file_and_do_not_stop_the_rest(pair: Pair, tmp_path: Path) -> None:
    acme, _ = pair
    rows = ["2026-02-02 00:00:00,rj-1,1", '2026-02-02 00:00:00,rj-2,"1,000"', "when,rj-3,3",
            "2026-02-02 00:00:00,rj-4,NaN", "2026-02-02 00:00:00,rj-5,1.5", "2026-02-02,rj-6,",
            "2026-02-02 00:00:00,im-conflict,1", "2026-02-02 00:00:00,im-conflict,2"]  # fmt: skip
    export, mapping = _write(tmp_path, rows)
    done = acme.json("import", export, "--map", mapping)
    assert (done["read"], done["recorded"], done["rejected"]) == (8, 2, 6)
    rejects = Path(done["rejects_file"]).read_text()
    for said in ("thousands separator", "ISO 8601", "not a number", "decimal places", "empty",
                 "other content"):  # fmt: skip
        assert said in rejects


def test_what_a_party_does_not_record_is_refused(pair: Pair) -> None:
    _, beta = pair
    done = beta.tally("emit", "context-tokens", "1", "--subject", "s", "--id", "x", check=False)
    assert done.returncode == 1
    assert "the consumer does not record" in done.stderr


def test_queries_also_without_a_node_and_exit_codes(pair: Pair, tmp_path: Path) -> None:
    acme, beta = pair
    _emit(acme, "stopped-1", 3)
    running, _ = _derived_alike(acme, beta)  # nothing is written any more while it is copied
    copy = nodes.Party(tmp_path, acme.name)
    shutil.copytree(acme.home, copy.home, ignore=shutil.ignore_patterns("socket"))
    assert copy.json("derive") == running
    assert copy.json("show", "stopped-1")["deltas"][0]["quantity"] == "3"
    assert copy.json("status")["channels"][0]["state"] == "confirming"
    assert copy.json("log", "--count", "1")["records"]
    for verb, code in (
        (("emit", "context-tokens", "1", "--subject", "s", "--id", "y"), 3),
        (("show", "nothing"), 2),
        (("derive", "--period", "2026-13"), 2),
        (("derive", "--meter"), 2),
        (("fly",), 2),
    ):
        done = copy.tally(*verb, check=False)
        assert done.returncode == code, verb
        assert "Traceback" not in done.stderr


def test_late_deltas_and_corrections_count_in_the_next_open_period(pair: Pair) -> None:
    acme, beta = pair
    folder = acme.home.parent
    _emit(acme, "late-1", 10, "2025-03-01T10:10:00Z")
    _emit(acme, "late-2", 20, "2025-03-01T10:20:00Z")
    note = acme.json("checkpoint", "2025-03-01T10")
    assert note["signed_by"] == ["acme.example", "beta.example"]
    assert beta.json("checkpoint", "2025-03-01T10")["digest"] == note["digest"]
    _emit(acme, "late-3", 5, "2025-03-01T10:30:00Z")
    acme.tally("correct", "context-tokens/late-1", "--quantity", "7", "--reason", "miscounted")
    acme.tally("correct", "context-tokens/late-2", "--void", "--reason", "a test call")
    nodes.wait_until(lambda: acme.json("derive")["digest"] == beta.json("derive")["digest"])
    lines = {
        (line["period"], line["late_for"]): (line["payable"], line["deltas"])
        for line in beta.json("derive")["lines"]
        if line["period"].startswith("2025-03-01")
    }
    assert lines == {
        ("2025-03-01T10", None): ("30", 2),
        ("2025-03-01T11", "2025-03-01T10"): ("-18", 0),
    }
    second = beta.json("checkpoint", "2025-03-01T11")
    assert f"previous {note['digest']}" in second["checkpoint"]
    assert "total context-tokens -18 token" in second["checkpoint"]
    for name, party in (("a", acme), ("b", beta)):
        party.tally("bundle", "2025-03-01T11", "-o", str(folder / name), "--full")
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    nowhere = nodes.Party(folder, "nowhere.example")
    checks = nowhere.json("verify", str(folder / "a"))
    assert checks["ok"]
    assert len(checks["checks"]) == 12
    assert not nowhere.home.exists()


def test_a_period_before_the_closed_one_and_an_early_one_are_refused(pair: Pair) -> None:
    acme, _ = pair
    _emit(acme, "early-1", 1, "2998-01-01T00:00:00Z")
    early = acme.tally("checkpoint", "2998-01-01T00", check=False)
    assert early.returncode == 2
    assert "grace time" in early.stderr or "not closed yet" in early.stderr


def test_proofs_of_a_delta_and_a_line(pair: Pair, tmp_path: Path) -> None:
    from tallystick.protocol.keys import parse_vkey
    from tallystick.protocol.proof import parse_proof, verify_proof
    from tallystick.protocol.records import Delta, decode_record

    acme, beta = pair
    _emit(acme, "proved-1", 12)
    beta.tally("prove", "context-tokens/proved-1", "-o", str(tmp_path))
    proof = parse_proof((tmp_path / "context-tokens-proved-1.tlog-proof").read_bytes())
    leaf = (tmp_path / "context-tokens-proved-1.leaf").read_bytes()
    keys = beta.json("vkey")
    verify_proof(proof, leaf, parse_vkey(keys["peer_log"]), parse_vkey(keys["cosigner"]))
    record = decode_record(leaf[32:])
    assert isinstance(record, Delta)
    assert (record.id, record.quantity) == ("proved-1", 12)


def test_kill_either_node_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        indexes = [_emit(acme, f"k-{n}") for n in range(3)]
        beta.kill()
        answer = acme.json("emit", "context-tokens", "1", "--subject", "s", "--id", "k-3",
                           "--at", "2026-01-05T10:00:00Z")  # fmt: skip
        assert answer["index"] == indexes[-1] + 1
        acme.kill()
        acme.start()
        beta.start()
        nodes.wait_until(lambda: beta.json("status")["channels"][0]["theirs"]["size"] == 5)
        nodes.wait_until(lambda: acme.json("status")["channels"][0]["own"]["cosigned"] == 5)
        assert acme.json("derive")["digest"] == beta.json("derive")["digest"]
        assert acme.json("derive")["lines"][0]["deltas"] == 4


def test_a_home_restored_from_an_old_copy_gets_its_records_back(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        _emit(acme, "r-1")
        acme.stop()
        shutil.copytree(acme.home, tmp_path / "old")
        acme.start()
        for n in range(2, 6):
            _emit(acme, f"r-{n}")
        acme.kill()
        shutil.rmtree(acme.home)
        shutil.copytree(tmp_path / "old", acme.home)
        acme.start()
        nodes.wait_until(lambda: acme.json("status")["channels"][0]["own"]["size"] == 6)
        assert _emit(acme, "r-6") == 6
        assert acme.json("derive")["digest"] == beta.json("derive")["digest"]
        assert acme.json("status")["channels"][0]["state"] == "open"


def test_a_restored_home_that_was_written_to_records_it_once(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        acme.stop()
        shutil.copytree(acme.home, tmp_path / "old")
        acme.start()
        _emit(acme, "f-1")
        acme.kill()
        beta.kill()
        shutil.rmtree(acme.home)
        shutil.copytree(tmp_path / "old", acme.home)
        acme.start()
        acme.tally("emit", "context-tokens", "9", "--subject", "s", "--id", "f-2")
        beta.start()
        nodes.wait_until(lambda: beta.json("status")["channels"][0]["theirs"]["size"] == 3)
        nodes.wait_until(lambda: acme.json("status")["channels"][0]["own"]["cosigned"] == 3)
        assert [delta["index"] for delta in acme.json("show", "f-1")["deltas"]] == [1]
        assert [delta["index"] for delta in beta.json("show", "f-2")["deltas"]] == [2]
        assert acme.json("derive")["digest"] == beta.json("derive")["digest"]
        acme.tally("emit", "context-tokens", "9", "--subject", "s", "--id", "f-3", "--wait")


def test_a_checkpoint_on_other_numbers_names_the_line_and_signs_nothing(tmp_path: Path) -> None:
    from tallystick.node.store.disk import Store, Txn
    from tallystick.node.store.keyspace import pack_tally, unpack_tally

    with nodes.channel(tmp_path) as (acme, beta):
        _emit(acme, "d-1", 100)
        beta.stop()

        def spoil(txn: Txn) -> None:
            for key, value in list(txn.scan("lines", b"", b"\xff" * 20)):
                tally = unpack_tally(value)
                tally.total += 1
                txn.put("lines", key, pack_tally(tally))

        store = Store(beta.home / "store")
        store.commit_now(spoil)
        store.close()
        beta.start()
        nodes.wait_until(lambda: acme.json("status")["channels"][0]["connected"])
        done = acme.tally("checkpoint", "2026-01-05T10", check=False)
        said = " ".join(done.stderr.split())
        assert done.returncode == 1
        assert "we have 2026-01-05T10 context-tokens s 100 token" in said
        assert "the peer have 2026-01-05T10 context-tokens s 101 token" in said
        assert "context-tokens s 101" in beta.json("status")["channels"][0]["difference"]
        for party in (acme, beta):
            assert party.json("status")["channels"][0]["last_checkpoint"] is None


@pytest.mark.parametrize("where", ["at the peer", "here"])
def test_a_full_disk_loses_nothing_and_passes(tmp_path: Path, where: str) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        rows = [f"2026-02-01 00:00:00,fd-{n},{n}" for n in range(20_000)]
        export, mapping = _write(tmp_path, rows)
        _emit(acme, "before")
        victim = (acme if where == "here" else beta).process
        assert victim is not None
        with disks.full_for(victim.pid):
            done = acme.tally("import", export, "--map", mapping, check=False)
        assert done.returncode == (3 if where == "here" else 0)
        assert ("cannot be written" in done.stderr) == (where == "here")
        acme.tally("import", export, "--map", mapping, "--wait")
        assert acme.json("derive")["digest"] == beta.json("derive")["digest"]
        lines = beta.json("derive", "--period", "2026-02-01T00")["lines"]
        assert [line["deltas"] for line in lines] == [20_000]
        for party in (acme, beta):
            assert party.json("status")["channels"][0]["state"] == "open"


def test_closing_early_takes_both(tmp_path: Path) -> None:
    with nodes.channel(tmp_path) as (acme, beta):
        acme.tally("emit", "context-tokens", "3", "--subject", "s", "--id", "now", "--wait")
        period = acme.json("derive")["lines"][0]["period"]
        early = acme.tally("checkpoint", period, check=False)
        assert (early.returncode, "grace time" in early.stderr) == (2, True)
        beta.stop()
        config = beta.home / "config.toml"
        config.write_text(config.read_text().replace('# early = "agree"', 'early = "refuse"'))
        beta.start()
        nodes.wait_until(lambda: acme.json("status")["channels"][0]["connected"])
        refused = acme.tally("checkpoint", period, "--force", check=False)
        assert refused.returncode == 2
        assert "did not sign" in refused.stderr
        beta.stop()
        config.write_text(config.read_text().replace('early = "refuse"', ""))
        beta.start()
        nodes.wait_until(lambda: acme.json("status")["channels"][0]["state"] == "open")
        signed = acme.json("checkpoint", period, "--force")["signed_by"]
        assert signed == ["acme.example", "beta.example"]
        nodes.wait_until(lambda: beta.json("status")["channels"][0]["last_checkpoint"] == period)


def test_several_channels_and_choosing_one(tmp_path: Path) -> None:
    with nodes.running(tmp_path, ("acme.example", "beta.example", "gamma.example")) as parties:
        acme, beta, gamma = parties
        nodes.pair(acme, beta)
        nodes.pair(acme, gamma)
        first = nodes.found(acme, beta)
        nodes.found(acme, gamma, nodes.TERMS.replace("beta.example", "gamma.example"))
        unclear = acme.tally("derive", check=False)
        assert unclear.returncode == 2
        assert "--channel" in unclear.stderr
        acme.tally("--channel", "gamma.example", "emit", "context-tokens", "4",
                   "--subject", "s", "--id", "g", "--wait")  # fmt: skip
        acme.tally("emit", "context-tokens", "4", "--subject", "s", "--id", "g",
                   "--wait", "--channel", first[:6])  # fmt: skip
        assert acme.json("derive", "--channel", first)["channel"] == first
        assert gamma.json("derive")["lines"][0]["payable"] == "4"
        assert beta.json("derive")["lines"][0]["payable"] == "4"


def test_pairing_codes_work_once_and_wrong_ones_say_why(tmp_path: Path) -> None:
    with nodes.running(tmp_path, ("acme.example", "beta.example", "gamma.example")) as parties:
        acme, beta, gamma = parties
        code = acme.json("invite")["code"]
        words = beta.json("join", code)["words"]
        assert " ".join(words) == acme.json("peers")["peers"][0]["words"]
        used = gamma.tally("join", code, check=False)
        assert used.returncode == 3
        assert "used already" in " ".join(used.stderr.split())
        cut = gamma.tally("join", code[:-3], check=False)
        assert (cut.returncode, "cut" in cut.stderr) == (2, True)
        own = acme.tally("join", acme.json("invite")["code"], check=False)
        assert (own.returncode, "own" in own.stderr) == (2, True)
        fresh = acme.json("invite")["code"]
        acme.stop()
        gone = gamma.tally("join", fresh, check=False)
        assert (gone.returncode, "cannot be reached" in gone.stderr) == (3, True)
        assert gamma.json("peers")["peers"] == []
        assert len(acme.json("peers")["peers"]) == 1


def test_terms_with_a_mistake_are_refused_with_their_line(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as (acme, beta):
        nodes.pair(acme, beta)
        file = tmp_path / "terms.toml"
        for text, said in (
            (nodes.TERMS.replace('"hour"', '"fortnight"').encode(), "line 4, period.calendar"),
            (nodes.TERMS.replace("token", "t\u00f6ken").encode("latin-1"), "not UTF-8"),
            (nodes.TERMS.replace("beta.example", "delta.example").encode(), "line 2, consumer"),
        ):
            file.write_bytes(text)
            done = acme.tally("propose", str(file), "--to", beta.name, check=False)
            assert done.returncode == 2
            assert said in " ".join(done.stderr.split())
        assert acme.json("channels")["channels"] == []


def test_a_node_in_use_says_so(pair: Pair) -> None:
    acme, _ = pair
    assert acme.process is not None
    second = subprocess.run(
        acme.command("run", "--listen", "127.0.0.1:0"), capture_output=True, text=True
    )
    assert second.returncode == 2
    assert f"process {acme.process.pid}" in " ".join(second.stderr.split())


def test_json_errors_are_one_document(pair: Pair) -> None:
    acme, _ = pair
    done = acme.tally("show", "nothing", "--json", check=False)
    assert json.loads(done.stdout)["error"]["kind"] == "UnknownName"


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"hello", b"\x00" * 4096])
def test_verify_of_garbage_is_a_clear_no(pair: Pair, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tally").write_bytes(content)
    done = pair[0].tally("verify", str(tmp_path / "x.tally"), check=False)
    assert done.returncode == 1
    assert "NOT PROVEN" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_code_of_a_node_on_every_address_can_be_joined(tmp_path: Path) -> None:
    acme, beta = (nodes.Party(tmp_path, name) for name in ("acme.example", "beta.example"))
    try:
        for party in (acme, beta):
            party.tally("init", "--name", party.name)
            party.start("--listen", "0.0.0.0:0")
        made = acme.json("invite")
        assert parse_invite(made["code"]).address == made["address"]
        host, port = made["address"].rsplit(":", 1)
        assert (host != "0.0.0.0", port) == (True, acme.address.rpartition(":")[2])
        beta.tally("join", made["code"])
        elsewhere = acme.json("invite", "--address", "tally.acme.example:7450")
        assert parse_invite(elsewhere["code"]).address == "tally.acme.example:7450"
        wrong = acme.tally("invite", "--address", "tally.acme.example", check=False)
        assert (wrong.returncode, "HOST:PORT" in wrong.stderr) == (2, True)
    finally:
        acme.stop()
        beta.stop()
