"""The endpoints of a home: where events are sent, which of them, and with what secret.

They are in one file of the home, for its owner only, like the seed: the secrets are there in clear,
because a signature cannot be made from a hash. The file is replaced whole or not at all.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from tallystick.node.errors import EndpointError, HomeError
from tallystick.node.feed.events import KINDS, check_kinds
from tallystick.node.files import alone, replace_private
from tallystick.node.webhooks.signing import new_secret

FILE = "webhooks.json"
ENDPOINTS_MAX = 64
HOSTED = ("delta.verified", "delta.failed", "record.committed")  # of the hosted service's client
T = TypeVar("T")


class Secret(Struct, frozen=True, forbid_unknown_fields=True):
    """A secret, and until when it counts (µs); 0: until it is replaced."""

    text: str
    until_us: int = 0


class Endpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """Where events are sent: those of these kinds behind the cursor `after`, of one channel (its
    id in hex) or of all. The newest secret is the first.
    """

    id: str
    url: str
    events: list[str]
    channel: str
    after: int
    created_us: int
    secrets: list[Secret]

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of events that it is sent; all of ours unless it names some."""
        return check_kinds(self.events, HOSTED) if self.events else frozenset(KINDS)

    @property
    def key(self) -> bytes:
        """What it is called in the store's keys."""
        return bytes.fromhex(self.id.removeprefix("whk_"))

    def keys(self, now_us: int) -> list[str]:
        """The secrets that count now."""
        return [one.text for one in self.secrets if not one.until_us or now_us < one.until_us]


_decode = msgspec.json.Decoder(list[Endpoint]).decode


def load_endpoints(home: Path) -> list[Endpoint]:
    """All endpoints of a home; `HomeError` if the file is damaged, or open to others."""
    file = home / FILE
    try:
        mode = file.stat().st_mode
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HomeError(f"{file} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise HomeError(
            f"{file} can be read by others (mode {mode & 0o777:04o}), and there are secrets in it",
            f"Run: chmod 600 {file} (and change the secrets: tally webhooks rotate-secret)",
        )
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HomeError(
            f"{file} is damaged: {error}", "Remove it and add the endpoints again"
        ) from None


def add_endpoint(
    home: Path, url: str, events: list[str], channel: str, after: int, now_us: int
) -> Endpoint:
    """Keep a new endpoint. The caller has checked the URL."""
    check_kinds(events, HOSTED)
    made = Endpoint(
        f"whk_{secrets.token_hex(8)}", url, events, channel, after, now_us, [Secret(new_secret())]
    )

    def change(endpoints: list[Endpoint]) -> tuple[list[Endpoint], Endpoint]:
        if len(endpoints) >= ENDPOINTS_MAX:
            raise EndpointError(
                f"there are {ENDPOINTS_MAX} endpoints already", "Remove one: tally webhooks remove"
            )
        return [*endpoints, made], made

    return _change(home, change)


def remove_endpoint(home: Path, id: str) -> Endpoint:
    """Forget an endpoint, named by the beginning of its id."""

    def change(endpoints: list[Endpoint]) -> tuple[list[Endpoint], Endpoint]:
        gone = find_endpoint(endpoints, id)
        return [one for one in endpoints if one.id != gone.id], gone

    return _change(home, change)


def rotate_secret(home: Path, id: str, until_us: int) -> Endpoint:
    """Give an endpoint a new secret; the one until now counts on until `until_us`, any before it
    no more.
    """

    def change(endpoints: list[Endpoint]) -> tuple[list[Endpoint], Endpoint]:
        before = find_endpoint(endpoints, id)
        both = [Secret(new_secret()), Secret(before.secrets[0].text, until_us)]
        made = msgspec.structs.replace(before, secrets=both)
        return [made if one.id == made.id else one for one in endpoints], made

    return _change(home, change)


def find_endpoint(endpoints: list[Endpoint], id: str) -> Endpoint:
    """The endpoint whose id begins so."""
    found = [one for one in endpoints if id and one.id.startswith(id)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(one.id for one in endpoints) or "none"
    what = "no endpoint is" if not found else "several endpoints are"
    raise EndpointError(f"{what} called {id!r}", f"There are: {listed}")


def _change(home: Path, change: Callable[[list[Endpoint]], tuple[list[Endpoint], T]]) -> T:
    """Replace the file by what `change` makes of it, one process at a time."""
    with alone(home):
        endpoints, result = change(load_endpoints(home))
        replace_private(home / FILE, msgspec.json.format(msgspec.json.encode(endpoints)) + b"\n")
        return result
