"""The seed's protection: encrypted and back, handed in from outside, and never more than needed."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

import nodes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.node.books import Books
from tallystick.node.cli import main
from tallystick.node.errors import HomeError
from tallystick.node.home import create_home, make_home, open_home
from tallystick.node.seed import (
    SECRET_BYTES_MAX,
    decrypt_seed,
    encrypt_seed,
    passphrase_of,
    read_secret,
)
from tallystick.node.store.disk import Store
from tallystick.protocol.errors import InputError
from tallystick.protocol.keys import Identity

SEED = bytes(range(32))
PASSPHRASE = b"correct horse battery"
OTHER = b"quite another one"


def light(seed: bytes = SEED, passphrase: bytes = PASSPHRASE) -> str:
    """An encrypted seed that costs next to nothing to open."""
    return encrypt_seed(seed, passphrase, b"s" * 16, b"n" * 24, 1, 8192)


@settings(max_examples=20)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=80))
def test_an_encrypted_seed_opens_with_its_passphrase_alone(seed: bytes, passphrase: bytes) -> None:
    text = light(seed, passphrase)
    assert decrypt_seed(text, passphrase, "it") == seed
    assert seed.hex() not in text
    with pytest.raises(HomeError, match="does not open"):
        decrypt_seed(text, passphrase + b"x", "it")


@settings(max_examples=200)
@given(st.data())
def test_a_changed_or_cut_text_is_refused(data: st.DataObject) -> None:
    text = light()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    cut = data.draw(st.booleans())
    changed = text[:at] if cut else text[:at] + other + text[at + 1 :]
    with pytest.raises(HomeError):
        decrypt_seed(changed, PASSPHRASE, "it")


def test_a_file_cannot_ask_for_all_memory() -> None:
    greedy = light().replace("argon2id13 1 8192", "argon2id13 1 99999999999")
    with pytest.raises(HomeError, match="more work"):
        decrypt_seed(greedy, PASSPHRASE, "it")


def test_a_passphrase_is_the_first_line() -> None:
    assert passphrase_of(b"two words\r\nrest\n", "it") == b"two words"
    with pytest.raises(InputError, match="empty"):
        passphrase_of(b"\nrest", "it")


def test_a_secret_that_anybody_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(PASSPHRASE)
    file.chmod(0o644)
    with pytest.raises(HomeError, match="read by anybody"):
        read_secret(file)
    file.chmod(0o640)
    assert read_secret(file) == PASSPHRASE
    file.write_bytes(bytes(SECRET_BYTES_MAX + 1))
    with pytest.raises(InputError, match="more than"):
        read_secret(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_secret(tmp_path / "none")


def test_an_encrypted_home_is_read_without_its_passphrase(tmp_path: Path) -> None:
    identity = Identity.from_seed("acme.example", SEED)
    home = make_home(tmp_path / "h", identity, light())
    Store(home.store_path).close()
    locked = open_home(home.path).identity()
    assert locked == identity
    with pytest.raises(HomeError, match="locked"):
        locked.signer("log", 0)
    books = Books.open(home, read_only=True)
    assert books.identity.cosigner_key == identity.cosigner_key
    books.close()
    assert home.unlock(decrypt_seed(home.seed_text() or "", PASSPHRASE, "it")) == identity


def test_a_home_takes_its_own_seed_only(tmp_path: Path) -> None:
    home = make_home(tmp_path / "h", Identity.from_seed("acme.example", SEED), None)
    assert home.seed_text() is None
    assert home.unlock(SEED).log.verify_key
    with pytest.raises(HomeError, match="its keys are others"):
        home.unlock(bytes(32))


@pytest.mark.parametrize("text", ["", "log 00\n", "\u00e9"])
def test_a_damaged_file_of_keys_is_a_sentence(tmp_path: Path, text: str) -> None:
    home = make_home(tmp_path / "h", Identity.from_seed("acme.example", SEED), light())
    (home.path / "keys").write_text(text)
    with pytest.raises(HomeError, match="three public keys"):
        home.identity()
    (home.path / "keys").unlink()
    with pytest.raises(HomeError, match="neither a seed nor"):
        home.identity()


def test_replacing_a_seed_is_whole_and_keeps_the_mode(tmp_path: Path) -> None:
    home = create_home(tmp_path / "h", "acme.example", SEED)
    (home.path / "keys").unlink()  # a home of before
    (home.path / "seed.new").write_text("what a crash left")
    home.replace_seed(light())
    assert stat.S_IMODE((home.path / "seed").stat().st_mode) == 0o600
    assert sorted(file.name for file in home.path.iterdir()) == [
        "config.toml", "keys", "name", "seed", "version",
    ]  # fmt: skip
    assert home.identity().log_key == Identity.from_seed("acme.example", SEED).log_key


@dataclass
class Terminal:
    """The command line in this process, without a terminal to ask at."""

    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def tally(
        self, home: Path, *arguments: str, secrets: tuple[bytes, ...] = ()
    ) -> tuple[int, str]:
        """A verb's exit code and what it said; `{0}` is the first secret's file descriptor."""
        ends = []
        for secret in secrets:
            reader, writer = os.pipe()
            os.write(writer, secret)
            os.close(writer)
            ends.append(str(reader))
        self.patch.setattr(
            sys, "argv", ["tally", "--home", str(home), *(a.format(*ends) for a in arguments)]
        )
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = self.capture.readouterr()
        for secret in (PASSPHRASE, OTHER, SEED.hex().encode()):
            assert secret.decode() not in out + err
        assert "internal error" not in err
        return int(stop.value.code or 0), " ".join((out + err).split())


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The command line."""
    return Terminal(capsys, monkeypatch)


def test_the_verbs_of_a_passphrase(tmp_path: Path, terminal: Terminal) -> None:
    home = tmp_path / "h"
    init = ("init", "--name", "acme.example", "--passphrase-fd", "{0}")
    assert terminal.tally(home, *init, secrets=(PASSPHRASE + b"\n",))[0] == 0
    text = (home / "seed").read_text()
    assert text.startswith("tallystick encrypted seed v1\n")
    seed = decrypt_seed(text, PASSPHRASE, "it")
    for query in ("status", "peers", "channels", "vkey"):
        assert terminal.tally(home, query)[0] == 0
    for arguments, secrets, code, expected in (
        (("run", "--listen", "127.0.0.1:0"), (), 2, "no terminal"),
        (("run", "--passphrase-fd", "{0}"), (OTHER,), 2, "does not open"),
        (("run", "--passphrase-fd", "{0}"), (b"\n",), 2, "is empty"),
        (("run", "--passphrase-fd", "97"), (), 2, "cannot be read"),
        (("run", "--seed-fd", "{0}"), (b"12",), 2, "is damaged"),
        (("run", "--seed-fd", "{0}"), (b"\xff",), 2, "does not hold a seed"),
        (("run", "--seed-fd", "{0}"), (SEED.hex().encode(),), 2, "its keys are others"),
        (("passphrase", "set", "--new-passphrase-fd", "{0}"), (OTHER,), 2, "already"),
        (("passphrase", "change", "--passphrase-fd", "{0}", "--new-passphrase-fd", "{1}"),
         (PASSPHRASE, b"short"), 2, "shorter than"),
        (("passphrase", "change", "--passphrase-fd", "{0}", "--new-passphrase-fd", "{1}"),
         (PASSPHRASE, OTHER), 0, "encrypted anew"),
        (("passphrase", "remove", "--passphrase-fd", "{0}"), (PASSPHRASE,), 2, "does not open"),
        (("passphrase", "remove", "--passphrase-fd", "{0}"), (OTHER,), 0, "no longer"),
        (("passphrase", "remove", "--passphrase-fd", "{0}"), (OTHER,), 2, "not encrypted"),
        (("passphrase", "set"), (), 2, "no terminal"),
        (("passphrase", "set", "--new-passphrase-fd", "{0}"), (OTHER,), 0, "is encrypted"),
    ):  # fmt: skip
        found, said = terminal.tally(home, *arguments, secrets=secrets)
        assert found == code and expected in said, (arguments, said)
    assert decrypt_seed((home / "seed").read_text(), OTHER, "it") == seed


def test_a_terminal_is_asked_twice(tmp_path: Path) -> None:
    party = nodes.Party(tmp_path, "acme.example")
    master, terminal = os.openpty()
    asked = subprocess.Popen(
        party.command("init", "--name", party.name, "--passphrase"),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    shown = b""
    typed = (PASSPHRASE, OTHER, PASSPHRASE, PASSPHRASE)
    for question, answer in zip((b"New passphrase: ", b"Again: ") * 2, typed, strict=True):
        said = b""
        while not said.endswith(question):
            said += os.read(master, 100)
        shown += said
        os.write(master, answer + b"\n")
    assert asked.communicate()[0].startswith(b"Error: The two entered values do not match.\nMade")
    assert asked.returncode == 0
    os.close(terminal)
    os.close(master)
    assert PASSPHRASE not in shown
    decrypt_seed((party.home / "seed").read_text(), PASSPHRASE, "it")


def test_a_home_without_its_seed(tmp_path: Path, terminal: Terminal) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SEED.hex() + "\n")
    secret.chmod(0o600)
    home = tmp_path / "h"
    init = ("init", "--name", "acme.example", "--no-seed-in-home")
    code, said = terminal.tally(home, *init)
    assert (code, "needs a seed" in said, home.exists()) == (2, True, False)
    terminal.patch.setenv("TALLYSTICK_SEED_FILE", str(secret))
    assert terminal.tally(home, *init)[0] == 0
    assert not (home / "seed").exists()
    code, said = terminal.tally(home, "passphrase", "set")
    assert (code, "holds no seed" in said) == (2, True)
    given = ("init", "--name", "acme.example", "--seed-fd", "{0}", "--passphrase-fd", "{1}")
    secrets = (light().encode(), PASSPHRASE)
    assert terminal.tally(tmp_path / "other", *given, secrets=secrets)[0] == 0
    assert open_home(tmp_path / "other").identity() == open_home(home).identity()
    party = nodes.Party(tmp_path, "h")
    party.start()
    party.stop()
    terminal.patch.delenv("TALLYSTICK_SEED_FILE")
    code, said = terminal.tally(home, "run")
    assert (code, "holds no seed" in said) == (2, True)


def test_a_node_takes_its_passphrase_from_a_file(tmp_path: Path, terminal: Terminal) -> None:
    make_home(tmp_path / "h", Identity.from_seed("acme.example", SEED), light())
    secret = tmp_path / "secret"
    secret.write_bytes(PASSPHRASE)
    secret.chmod(0o600)
    terminal.patch.setenv("TALLYSTICK_PASSPHRASE_FILE", str(secret))
    party = nodes.Party(tmp_path, "h")
    party.start()
    assert party.json("invite")["code"]
    party.stop()
