"""tally statement, attach and verify, as people type them, on real homes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import stating
from ubl_files import schema_errors, ubl

from tallystick.node.books import Books
from tallystick.node.home import Home
from tallystick.node.statement.making import statement_html, statement_pdf


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The consumer's home of a channel with disputes."""
    return stating.disputed_homes(tmp_path_factory.mktemp("disputed"))[1]


def _tally(*words: object, home: Home | None = None) -> subprocess.CompletedProcess[str]:
    code = "from tallystick.node.cli import main; main()"
    where = ["--home", str(home.path)] if home else []
    environment = dict(os.environ, TALLYSTICK_HOME="/nonexistent")
    return subprocess.run(
        [sys.executable, "-c", code, *where, *map(str, words)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("ending", ["pdf", "html"])
def test_a_statement_is_written_and_verified_anywhere(
    home: Home, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"october.{ending}"
    done = _tally("statement", "2026-10", "-o", path, "--json", home=home)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["attached"] == ["2026-10.tally", "disputes.json"]
    assert (document["file"], document["bytes"]) == (str(path), path.stat().st_size)
    verified = _tally("verify", path)
    assert verified.returncode == 0, verified.stdout
    assert "pages: all" in verified.stdout and "every check holds" in verified.stdout
    again = tmp_path / f"again.{ending}"
    assert _tally("statement", "--from", path, "-o", again).returncode == 0
    assert again.read_bytes() == path.read_bytes()


def test_the_functions_give_what_the_command_writes(home: Home, tmp_path: Path) -> None:
    books = Books.open(home, read_only=True)
    try:
        opened = books.channels[books.select(None)]
        made = {
            "pdf": statement_pdf(*opened, "2026-11", full=True),
            "html": statement_html(*opened, "2026-11", full=True),
        }
    finally:
        books.close()
    for ending, data in made.items():
        path = tmp_path / f"s.{ending}"
        assert _tally("statement", "2026-11", "--full", "-o", path, home=home).returncode == 0
        assert path.read_bytes() == data
        assert "derivation: the records give" in _tally("verify", path).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["2026-12", "-o", "F.pdf"], "2026-12 is not closed"),
        (["2026-10", "--draft", "-o", "F.pdf"], "needs no draft"),
        (["2026", "-o", "F.pdf"], "is not a month"),
        (["2026-10", "-o", "F.doc"], ".doc is no form of a statement"),
        (["2026-10", "-o", "F"], "no ending is no form"),
        (["-o", "F.pdf"], "give a PERIOD, or a bundle with --from"),
        (["2026-10", "--from", "x", "-o", "F.pdf"], "give a PERIOD, or a bundle with --from"),
        (["--from", "x", "--full", "-o", "F.pdf"], "--full and --draft are not for it"),
        (["--from", "nothing", "-o", "F.pdf"], "cannot be read"),
    ],
)
def test_mistakes_are_said_and_nothing_is_written(
    home: Home, tmp_path: Path, words: list[str], said: str
) -> None:
    words = [str(tmp_path / word) if word.startswith("F") else word for word in words]
    done = _tally("statement", *words, home=home)
    assert done.returncode == 2 and said in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_draft_is_written_when_asked_for_and_not_proven(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "draft.pdf"
    done = _tally("statement", "2026-12", "--draft", "-o", path, home=home)
    assert done.returncode == 0 and "nobody has signed it" in done.stderr
    assert _tally("verify", path).returncode == 1


def test_a_changed_bundle_makes_no_statement(home: Home, tmp_path: Path) -> None:
    bundle = tmp_path / "b.tally"
    assert _tally("bundle", "2026-10", "-o", bundle, home=home).returncode == 0
    bundle.write_bytes(bundle.read_bytes().replace(b"total tokens", b"total tokenz"))
    done = _tally("statement", "--from", bundle, "-o", tmp_path / "F.pdf")
    assert done.returncode == 1 and "the bundle does not hold" in done.stderr
    assert not (tmp_path / "F.pdf").exists()


def test_attach_in_place_and_elsewhere(home: Home, tmp_path: Path) -> None:
    invoice, out = tmp_path / "invoice.xml", tmp_path / "out.xml"
    invoice.write_bytes(ubl())
    invoice.chmod(0o600)
    done = _tally("attach", invoice, "--period", "2026-10", "-o", out, home=home)
    assert done.returncode == 0, done.stderr
    assert invoice.read_bytes() == ubl() and schema_errors(out.read_bytes()) == []
    assert _tally("attach", invoice, "--period", "2026-10", home=home).returncode == 0
    assert invoice.read_bytes() == out.read_bytes()
    assert invoice.stat().st_mode & 0o777 == 0o600
    again = _tally("attach", invoice, "--period", "2026-10", "--json", home=home)
    document = json.loads(again.stdout)
    assert document["replaced"] and document["mime_type"] == "application/pdf"
    assert invoice.read_bytes() == out.read_bytes()
    verified = _tally("verify", invoice)
    assert verified.returncode == 0 and "invoice: it attaches the proof" in verified.stdout


@pytest.mark.parametrize(
    ("data", "period", "said"),
    [
        (ubl(), "2026-11", "the invoice bills 2026-10-01 to 2026-10-31"),
        (ubl(), "2026-12", "2026-12 is not closed"),
        (b"<a/>", "2026-10", "no UBL 2.1 invoice"),
        (b"<!DOCTYPE a><a/>", "2026-10", "document type"),
        (b"", "2026-10", "not well-formed"),
    ],
)
def test_attach_refuses_and_leaves_the_invoice(
    home: Home, tmp_path: Path, data: bytes, period: str, said: str
) -> None:
    invoice = tmp_path / "invoice.xml"
    invoice.write_bytes(data)
    done = _tally("attach", invoice, "--period", period, home=home)
    assert done.returncode == 2 and said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr and invoice.read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["invoice.xml"]
