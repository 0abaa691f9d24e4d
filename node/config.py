"""A home's configuration: what it may say, its defaults, and the file that explains itself."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.errors import InputError
from tallystick.protocol.toml import parse_toml, toml_text


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """Where this node listens, and what it tells others."""

    listen: str = "127.0.0.1:7450"
    advertise: str = ""
    dial_timeout_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0


class Checkpoints(Struct, frozen=True, forbid_unknown_fields=True):
    """How this node answers proposals to close a period."""

    early: Literal["agree", "refuse"] = "agree"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    network: Network = Network()
    checkpoints: Checkpoints = Checkpoints()


TEMPLATE = """\
# Tallystick configuration. Every setting is shown with its default; a line that begins with # is
# not in force. Changes take effect when the node is started again.

[network]
# Where peers connect. Use 0.0.0.0:7450 to accept them from other machines.
# listen = "127.0.0.1:7450"

# The address that peers are told to dial, if it is not the one above (behind a NAT or a name).
# advertise = ""

# How long to wait for a peer to answer when dialling.
# dial_timeout_seconds = 10.0

[checkpoints]
# Whether to sign a period that the peer closes before its grace time is over (its --force), if
# the numbers agree: "agree" or "refuse".
# early = "agree"
"""


def load_config(path: Path) -> Config:
    """The configuration of a file; `InputError` names the line or the key that is wrong."""
    try:
        values = parse_toml(toml_text(path.read_bytes()))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.advice) from None
    _check_keys(path, values, Config, "")
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{path}: {error}", "The file's comments say what each setting takes"
        ) from None


def _check_keys(path: Path, values: dict[str, Any], kind: type[Struct], where: str) -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            advice = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}"
            raise InputError(f"{path}: there is no setting {where}{key}", advice)
        inner = known[key]
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, Struct):
            _check_keys(path, value, inner, f"{where}{key}.")
