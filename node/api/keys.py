"""Bearer keys of the HTTP interface: who may do what.

A key is shown once, when it is made, and kept as a SHA-256 hash: its secret has 256 random bits, so
there is nothing that a slow hash would protect. The file is replaced whole and read again when it
changed, so keys come and go while the node runs, and also while it does not.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from tallystick.node.errors import HomeError
from tallystick.node.files import alone, replace_private
from tallystick.node.home import Home
from tallystick.protocol.errors import InputError

Scope = Literal["emit", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
FILE = "api-keys.json"
BYTES_MAX = 4 * 1024 * 1024  # of the file: some 20,000 keys
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(r"tally_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as it is kept: its secret only as a hash."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: str
    sha256: str

    def may(self, scope: Scope) -> bool:
        """Whether this key allows what needs a scope; `admin` allows all."""
        return scope in self.scopes or "admin" in self.scopes


# Whoever comes through the home's Unix socket can read the home itself.
OWNER = ApiKey("", "owner", ("admin",), "", "")
_decode = msgspec.json.Decoder(list[ApiKey]).decode


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class ApiKeys:
    """The keys of a home."""

    def __init__(self, home: Home) -> None:
        self._path = home.path / FILE
        self._stamp: tuple[int, int, int] | None = None
        self._known: dict[str, ApiKey] = {}
        self._wrong = ""

    def find(self, presented: str) -> ApiKey | None:
        """The key that was presented; None if it is not one of ours."""
        match = _KEY.fullmatch(presented)
        key = self._all().get(match[1]) if match else None
        # Compare also what cannot be right, so that time tells nothing of which ids there are.
        right = hmac.compare_digest(key.sha256 if key else "0" * 64, _hash(presented))
        return key if right else None

    def all(self) -> list[ApiKey]:
        """Every key, in the order in which they were made."""
        return list(self._all().values())

    def knows(self, caller: ApiKey) -> bool:
        """Whether a caller may still come in: the owner, or a key that was not removed. While the
        keys cannot be read, none may.
        """
        try:
            return caller == OWNER or caller in self._all().values()
        except HomeError:
            return False

    def add(self, name: str, scopes: Sequence[Scope], created_at: str) -> str:
        """Make a key; it is returned here and never again. `InputError` if the name is taken."""
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is no name for a key", "Letters, digits, and _ . - inside; at most 64"
            )
        with alone(self._path.parent):
            known = self.all()
            if any(key.name == name for key in known):
                raise InputError(
                    f"there is a key called {name} already",
                    f"Remove it first (tally keys remove {name}), or choose another name",
                )
            id_ = secrets.token_hex(6)
            text = f"tally_{id_}_{secrets.token_urlsafe(32)}"
            chosen = tuple(scope for scope in SCOPES if scope in scopes)
            self._write([*known, ApiKey(id_, name, chosen, created_at, _hash(text))])
        return text

    def remove(self, name: str) -> None:
        """Remove a key by its name or id: from now on it opens nothing."""
        with alone(self._path.parent):
            known = self.all()
            left = [key for key in known if name not in (key.name, key.id)]
            if len(left) == len(known):
                names = ", ".join(key.name for key in known) or "none"
                raise InputError(f"there is no key called {name!r}", f"Keys: {names}")
            self._write(left)

    def _all(self) -> dict[str, ApiKey]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._known, self._wrong = None, {}, ""
            return self._known
        except OSError as error:
            raise HomeError(f"{self._path} cannot be read: {error.strerror}") from None
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            # What is wrong is kept too: a file is read once, however many ask.
            self._stamp, self._known = stamp, {}
            self._wrong = self._read(found)
        if self._wrong:
            raise HomeError(
                f"{self._path} is damaged: {self._wrong}",
                "Remove it and make the keys anew: tally keys add",
            )
        return self._known

    def _read(self, found: os.stat_result) -> str:
        """Read the file; what is wrong with it, in words, if anything is."""
        if not stat.S_ISREG(found.st_mode):
            return "it is no file"
        if found.st_size > BYTES_MAX:
            return f"it has more than {BYTES_MAX} bytes"
        try:
            with self._path.open("rb") as file:
                keys = _decode(file.read(BYTES_MAX))
        except OSError as error:
            return error.strerror or "it cannot be read"
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return str(error)
        self._known = {key.id: key for key in keys}
        return ""

    def _write(self, keys: Sequence[ApiKey]) -> None:
        text = msgspec.json.format(msgspec.json.encode(keys), indent=2)
        replace_private(self._path, text + b"\n")
