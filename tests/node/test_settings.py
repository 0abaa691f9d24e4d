"""Each setting is explained, and it is said where its value came from."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nodes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.config import Config, load_config
from tallystick.node.settings import HIDDEN, explanations, flat, lines_of, settings, takes
from tallystick.node.template import TEMPLATE

ROOT = Path(__file__).parents[2]
NAMES = sorted(flat(Config()))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_explained(name: str) -> None:
    assert explanations()[name]
    assert takes(name) not in ("", "a value")


def test_an_explanation_is_of_one_table_alone() -> None:
    tables: dict[str, set[str]] = {}
    for name, means in explanations().items():
        tables.setdefault(means, set()).add(name.partition(".")[0])
    assert all(len(of) == 1 for of in tables.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_on_the_page(name: str) -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert f"| `{name}` |" in page


def test_the_page_has_no_setting_that_is_gone() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    rows = [name for name in named if "." in name]
    assert sorted(rows) == NAMES


TEXT = """\
# a comment with listen = 1 in it
[network]
  listen = "0.0.0.0:7450"  # here

[quotas] # and here
log_mebibytes=5
proposals = 32

[[reconcile.rules]]
peer = "beta.example"
file = "f"
map = "m"
"""


def test_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(TEXT)
    found = {s.name: s for s in settings(load_config(tmp_path / "config.toml"), TEXT)}
    assert {name: one.line for name, one in found.items() if one.line} == {
        "network.listen": 3,
        "quotas.log_mebibytes": 6,
        "quotas.proposals": 7,  # set to what is the default
        "reconcile.rules": 9,
    }
    assert found["quotas.log_mebibytes"].value == 5
    assert found["quotas.log_mebibytes"].default == 16_384
    assert found["network.advertise"].line is None


def test_a_table_in_a_line(tmp_path: Path) -> None:
    text = '\nnetwork = { listen = "0.0.0.0:1" }\nquotas.proposals = 5\n'
    (tmp_path / "config.toml").write_text(text)
    found = {s.name: s for s in settings(load_config(tmp_path / "config.toml"), text)}
    assert found["network.listen"].line == 2
    assert found["quotas.proposals"].line == 3
    assert found["network.advertise"].line is None


@given(st.text())
def test_any_text_has_lines(text: str) -> None:
    assert all(1 <= line <= len(text.splitlines()) for line in lines_of(text).values())


def test_the_template_sets_nothing() -> None:
    assert all(one.line is None for one in settings(Config(), TEMPLATE))


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tallystick.node.settings.msgspec.to_builtins",
        lambda config: {"hooks": {"secret": "x", "api_token": "", "url": "u"}},
    )
    assert flat(Config()) == {"hooks.secret": HIDDEN, "hooks.api_token": "", "hooks.url": "u"}


@pytest.fixture
def party(tmp_path: Path) -> Iterator[nodes.Party]:
    """A home whose node is not running."""
    made = nodes.Party(tmp_path, "acme.example")
    made.tally("init", "--name", made.name)
    yield made
    made.stop()


def test_people_read_it_in_80_columns(party: nodes.Party) -> None:
    party.configure("[quotas]\nlog_mebibytes = 5\n")
    said = party.tally("config").stdout
    assert "quotas.log_mebibytes = 5  (line 2)" in said
    assert "Takes a whole number from 1 up to 1,073,741,824; default 16384." in said
    assert all(len(line) <= 80 or str(party.home) in line for line in said.splitlines())
    assert party.tally("config", "quotas").stdout.count("(default)") == 6
    assert party.tally("config", "log.level").stdout.count("Takes") == 1
    assert party.tally("config", "--changed").stdout.count("Takes") == 1


def test_programs_read_it(party: nodes.Party, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_SEED_FILE", "/nowhere")
    document = party.json("config")
    assert document["home_from"] == "--home"
    assert document["environment"] == ["TALLYSTICK_SEED_FILE"]
    assert [one["name"] for one in document["settings"]] == list(flat(Config()))
    assert all("running" not in one for one in document["settings"])


def test_the_home_may_be_named_by_the_environment(
    party: nodes.Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLYSTICK_HOME", str(party.home))
    command = [one for one in party.command("config", "--json") if one not in
               ("--home", str(party.home))]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["home_from"] == "TALLYSTICK_HOME"


def test_what_the_running_node_has_instead_is_said(party: nodes.Party) -> None:
    party.start()  # with --listen
    party.configure("[quotas]\nlog_mebibytes = 5\n")
    found = {one["name"]: one for one in party.json("config")["settings"]}
    assert {name for name, one in found.items() if "running" in one} == {
        "network.listen",
        "quotas.log_mebibytes",
    }
    assert found["network.listen"]["running"] == {
        "value": "127.0.0.1:0",
        "why": "from its --listen",
    }
    assert found["quotas.log_mebibytes"]["running"] == {
        "value": 16_384,
        "why": "from before the file changed",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ('[network]\nlisten = "nowhere"\n', "network.listen"),
        ('[network]\nadvertise = "acme.example"\n', "network.advertise"),
        ('[http]\nlisten = "7451"\n', "http.listen"),
        ('[http]\nlisten = ""\n', ""),
        ('[http]\nlisten = "0.0.0.0:7451"\n', "http.remote = true"),
        ('[http]\nlisten = "0.0.0.0:7451"\nremote = true\n', ""),
        ("[quotas]\nproposals = 0\n", "proposals"),
        ("[netwrok]\n", "Did you mean network"),
        ('[[intake.cloudevents]]\ntype="*"\nchannel="b"\nmap="nowhere.toml"\n', "nowhere.toml"),
        ('[[reconcile.rules]]\npeer="b"\nfile="f"\nmap="/nowhere"\n', "/nowhere"),
    ],
)
def test_the_file_is_checked(party: nodes.Party, text: str, said: str) -> None:
    party.configure(text)
    done = party.tally("config", "check", check=False)
    assert done.returncode == (2 if said else 0), done.stderr
    assert said in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr


def test_a_setting_that_is_none(party: nodes.Party) -> None:
    done = party.tally("config", "quota", check=False)
    assert done.returncode == 2
    assert "no setting or table 'quota'" in done.stderr


def test_the_health_of_a_node(party: nodes.Party) -> None:
    assert party.tally("health", check=False).returncode == 3
    party.start()
    done = party.tally("health", "--ready")
    assert done.stdout == "healthy\n"
    party.stop()
    party.configure("[health]\nfree_mebibytes = 1_000_000_000\n")
    party.start()
    sick = party.tally("health", "--json", check=False)
    assert sick.returncode == 1
    assert not json.loads(sick.stdout)["ok"]
    assert "MiB are free" in party.tally("health", check=False).stdout
