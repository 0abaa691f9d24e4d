"""Targets for the TOML files that people write: terms, mappings, a home's configuration."""

from __future__ import annotations

import builders

from fuzzing.contract import attempt, scratch_file
from tallystick.node.config import load_config
from tallystick.node.importing.mapping import load_mapping
from tallystick.protocol.errors import InputError, MappingError, TermsError
from tallystick.protocol.records import decode_record, encode_record
from tallystick.protocol.terms import check_terms, describe_terms, parse_terms

_PARTIES = {
    name: builders.party_keys(builders.identity(name)) for name in ("acme.example", "beta.example")
}


def terms(data: bytes) -> None:
    """A terms file: what it makes is a record that the other side takes as well."""
    made = attempt(TermsError, parse_terms, data, _PARTIES, bytes(16))
    if made is not None:
        assert decode_record(encode_record(made)) == made
        check_terms(made)
        "\n".join(describe_terms(made)).encode()


def mappings(data: bytes) -> None:
    """A mapping file."""
    mapping = attempt(MappingError, load_mapping, scratch_file("map.toml", data))
    if mapping is not None:
        assert mapping.columns()


def configs(data: bytes) -> None:
    """A home's configuration."""
    config = attempt(InputError, load_config, scratch_file("tally.toml", data))
    assert config is None or 0 < config.network.dial_timeout_seconds <= 300
