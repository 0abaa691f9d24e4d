"""Keys: shown once, kept as hashes, changed by one at a time, and gone when they are removed."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.api.keys import FILE, OWNER, ApiKeys
from tallystick.node.errors import HomeError
from tallystick.node.home import Home, create_home
from tallystick.protocol.errors import InputError

AT = "2026-11-01T00:00:00Z"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return create_home(tmp_path / "h", "acme.example", bytes(32))


def test_a_key_opens_what_its_scopes_say(home: Home) -> None:
    keys = ApiKeys(home)
    text = keys.add("ci", ["read", "emit"], AT)
    found = keys.find(text)
    assert found is not None
    assert (found.name, found.scopes, found.created_at) == ("ci", ("emit", "read"), AT)
    assert found.may("emit")
    assert found.may("read")
    assert not found.may("admin")
    assert OWNER.may("emit")


def test_the_secret_is_not_in_the_home(home: Home) -> None:
    text = ApiKeys(home).add("ci", ["read"], AT)
    secret = text.split("_", 2)[2]
    assert all(
        secret.encode() not in file.read_bytes() for file in home.path.iterdir() if file.is_file()
    )
    assert stat.S_IMODE((home.path / FILE).stat().st_mode) == 0o600


def test_a_key_that_is_not_quite_ours_opens_nothing(home: Home) -> None:
    keys = ApiKeys(home)
    text = keys.add("ci", ["read"], AT)
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    for presented in (other, text + "A", text.upper(), f" {text}", "", "tally_", "é\udcff"):
        assert keys.find(presented) is None


@given(presented=st.text(max_size=80))
def test_nothing_that_is_presented_is_an_error(presented: str) -> None:
    assert ApiKeys(Home(Path("/nowhere"), "acme.example")).find(presented) is None


def test_a_key_counts_at_once_in_another_process_and_no_longer_when_removed(home: Home) -> None:
    node, person = ApiKeys(home), ApiKeys(home)
    first = person.add("first", ["read"], AT)
    assert node.find(first) is not None
    second = person.add("second", ["admin"], AT)
    assert node.find(second) is not None
    person.remove("first")
    assert node.find(first) is None
    assert node.find(second) is not None
    person.remove(node.all()[0].id)
    assert node.find(second) is None


def test_a_name_is_given_once_and_must_be_one(home: Home) -> None:
    keys = ApiKeys(home)
    keys.add("ci", ["read"], AT)
    with pytest.raises(InputError, match="called ci already"):
        keys.add("ci", ["read"], AT)
    for name in ("", "a b", "-x", "é", "x" * 65, "a/b"):
        with pytest.raises(InputError, match="is no name for a key"):
            keys.add(name, ["read"], AT)
    with pytest.raises(InputError, match="no key called 'cd'"):
        keys.remove("cd")


def test_keys_made_at_the_same_moment_are_all_kept(home: Home) -> None:
    made: list[str] = []

    def add(number: int) -> None:
        made.append(ApiKeys(home).add(f"key-{number}", ["read"], AT))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = ApiKeys(home)
    assert len(made) == 12
    assert all(keys.find(text) is not None for text in made)


def test_a_damaged_file_is_said(home: Home) -> None:
    (home.path / FILE).write_bytes(b"[{]")
    with pytest.raises(HomeError, match="is damaged"):
        ApiKeys(home).find("tally_000000000000_" + "A" * 43)
