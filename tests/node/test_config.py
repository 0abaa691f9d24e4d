"""The configuration file: it explains itself, and refuses what it does not know."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from tallystick.node.config import Config, load_config
from tallystick.node.template import TEMPLATE
from tallystick.protocol.errors import InputError


def _load(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load_config(file)


def test_the_template_is_the_defaults(tmp_path: Path) -> None:
    assert _load(tmp_path, TEMPLATE) == Config()


def test_the_template_shows_every_setting_with_its_default() -> None:
    uncommented = re.sub(r"^# (\w+ = )", r"\1", TEMPLATE, flags=re.MULTILINE)
    assert tomllib.loads(uncommented) == msgspec.to_builtins(Config())


def test_a_setting_takes_effect(tmp_path: Path) -> None:
    config = _load(tmp_path, '[checkpoints]\nearly = "refuse"\n')
    assert config.checkpoints.early == "refuse"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[network]\nlisten_on = "x"\n', "network.listen_on.*Did you mean listen"),
        ("[network]\nlisten = 7450\n", "Expected `str`"),
        ("[network]\ndial_timeout_seconds = 0\n", "dial_timeout_seconds"),
        ('[checkpoints]\nearly = "maybe"\n', "early"),
        ("[network\n", "line 1"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        _load(tmp_path, text)
    assert re.search(said, str(raised.value))


def test_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'[network]\nlisten = "\xe4"\n')
    with pytest.raises(InputError, match="not UTF-8"):
        load_config(file)
