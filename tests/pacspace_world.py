"""Two real nodes with an open channel, for the real client: many customers on it, and keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import nodes
from pacspace_sdk import PacSpace

CUSTOMERS = 120

TERMS = """\
provider = "acme.example"
consumer = "beta.example"
[period]
calendar = "{calendar}"
time_zone = "{zone}"
[clocks]
grace = "0s"
[meters.credits]
unit = "credit"
scale = 6
range = ["-1000000000", "1000000000"]
[meters.tokens]
unit = "token"
[meters.requests]
unit = "request"
source = "consumer"
[meters.peak]
unit = "GB"
aggregate = "max"
"""

_OURS = """\
[http]
requests_at_once = 200
[pacspace]
customers = [
  {{ id = "tokens", channel = "beta.example", meter = "tokens", subject = "t" }},
  {{ id = "drawn-down", channel = "{beta}", meter = "tokens", subject = "d", usage = "negative" }},
  {{ id = "cust:with:colons", channel = "beta.example", meter = "credits", subject = "colons" }},
  {{ id = "nested", channel = "beta.example", meter = "tokens", subject = "t:n" }},
  {{ id = "theirs", channel = "beta.example", meter = "requests" }},
  {{ id = "no-such-meter", channel = "beta.example", meter = "peak" }},
  {{ id = "no-such-channel", channel = "gamma.example" }},
{rows}
]
"""
_THEIRS = """\
[pacspace]
customers = [
  { id = "acme", channel = "acme.example", meter = "credits", subject = "s0" },
]
"""


class World:
    """The two parties, and clients of the provider's node."""

    def __init__(self, acme: nodes.Party, beta: nodes.Party) -> None:
        self.acme, self.beta = acme, beta
        self._numbers = itertools.count()
        self._keys: dict[tuple[str, ...], str] = {}

    @cached_property
    def url(self) -> str:
        """Where the provider's node is: after a restart, in the same place."""
        found: str = self.acme.json("status")["http"]
        return found

    def key(self, *scopes: str) -> str:
        """A key with these scopes."""
        if scopes not in self._keys:
            options = [word for scope in scopes for word in ("--scope", scope)]
            name = f"key-{next(self._numbers)}"
            self._keys[scopes] = self.acme.json("keys", "add", name, *options)["key"]
        return self._keys[scopes]

    def client(self, *scopes: str, **options: Any) -> PacSpace:
        """The real client, with a key of these scopes (all, if none is named)."""
        key = self.key(*(scopes or ("admin",)))
        return PacSpace.init(key, **({"base_url": self.url} | options))

    def http(self, *scopes: str) -> httpx.Client:
        """A bare client, for what the real one does not send."""
        headers = {"X-Api-Key": self.key(*(scopes or ("admin",)))}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@contextmanager
def made(folder: Path, calendar: str = "month", zone: str = "UTC") -> Iterator[World]:
    """The nodes, running."""
    rows = "\n".join(
        f'  {{ id = "c{n}", channel = "beta.example", meter = "credits", subject = "s{n}" }},'
        for n in range(CUSTOMERS)
    )
    with nodes.running(folder) as (acme, beta):
        for party, text in ((acme, _OURS.format(rows=rows, beta="beta.example")), (beta, _THEIRS)):
            party.stop()
            party.configure(text)
            party.start()
        nodes.pair(acme, beta)
        nodes.found(acme, beta, TERMS.format(calendar=calendar, zone=zone))
        yield World(acme, beta)
