"""A node's home: the folder that holds its seed, its configuration and its store.

A home is made whole or not at all, belongs to one party, and is used for writing by one process at
a time. Everything in it is for its owner only: mode 0700, files 0600.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tallystick.node.errors import HomeError
from tallystick.node.files import sync, whole_folder, write_new
from tallystick.node.seed import is_encrypted, parse_seed
from tallystick.node.template import TEMPLATE
from tallystick.protocol.keys import Identity, KeyJob, check_party_name

HOME_VERSION = 2
SOCKET_PATH_BYTES_MAX = 100  # a Unix socket's address has room for 107


@dataclass(frozen=True, slots=True)
class Home:
    """An existing home."""

    path: Path
    name: str

    def identity(self) -> Identity:
        """The party's keys; the private ones too if the seed lies open in the home.

        `HomeError` if the seed file or the file of public keys is damaged, or open to others.
        """
        text = self.seed_text()
        if text is None or is_encrypted(text):
            return self._locked()
        return self.unlock(parse_seed(text, str(self.path / "seed")))

    def seed_text(self) -> str | None:
        """What the home's seed file holds; None if the seed is kept elsewhere."""
        file = self.path / "seed"
        try:
            mode = file.stat().st_mode
            text = file.read_text("ascii", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HomeError(f"{file} cannot be read: {error.strerror}") from None
        if mode & 0o077:
            raise HomeError(
                f"{file} can be read by others (mode {mode & 0o777:04o})",
                f"Run: chmod 600 {file} (and think about who may have read it)",
            )
        return text

    def unlock(self, seed: bytes) -> Identity:
        """The identity of this home's seed; `HomeError` if it is another's."""
        identity = Identity.from_seed(self.name, seed)
        known = self._public_keys()
        if known is not None and known != _public_keys(identity):
            raise HomeError(
                f"the seed is not the one of the home {self.path}: its keys are others",
                "Is it the right seed, and the right home?",
            )
        return identity

    def _locked(self) -> Identity:
        """The public keys; whoever needs a private one is told how to unlock them."""
        known = self._public_keys()
        if known is None:
            raise HomeError(
                f"the home {self.path} has neither a seed nor its public keys",
                "Restore its seed file from your copy",
            )

        def refuse(job: KeyJob, number: int) -> NoReturn:
            raise HomeError(
                f"the private keys of {self.name} are locked", "This needs the seed: see tally run"
            )

        return Identity(self.name, *known, refuse)

    def _public_keys(self) -> tuple[bytes, bytes, bytes] | None:
        """The file `keys`; None in a home that was made before there was one."""
        advice = "Remove it if the home has a plain seed: it follows from that"
        match = self.said_in("keys", _KEYS, "three public keys", advice)
        if match is None:
            return None
        log, cosigner, transport = (bytes.fromhex(key) for key in match.groups())
        return log, cosigner, transport

    def said_in(self, name: str, form: str, what: str, advice: str) -> re.Match[str] | None:
        """What a small file of the home says; None if there is none, `HomeError` if it does not
        have this form.
        """
        file = self.path / name
        try:
            text = file.read_text("ascii", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HomeError(f"{file} cannot be read: {error.strerror}") from None
        match = re.fullmatch(form, text)
        if match is None:
            raise HomeError(f"{file} is damaged: it must hold {what}", advice)
        return match

    def replace_seed(self, text: str) -> None:
        """Put another form of the same seed in place of the home's seed file, whole or not at
        all.
        """
        try:
            if self._public_keys() is None:  # an older home: they are needed once it is locked
                write_new(self.path / "keys", _keys_text(self.identity()))
            beside = self.path / "seed.new"
            beside.unlink(missing_ok=True)  # a crash may have left it
            write_new(beside, text)
            beside.rename(self.path / "seed")
            sync(self.path)
        except OSError as error:
            raise HomeError(f"{self.path} cannot be written: {error.strerror}") from None

    @property
    def config_path(self) -> Path:
        """The configuration file."""
        return self.path / "config.toml"

    @property
    def store_path(self) -> Path:
        """The LMDB environment's folder."""
        return self.path / "store"

    @property
    def socket_path(self) -> Path:
        """Where the running node listens for the command line."""
        path = self.path / "socket"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            return path
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        # Not TMPDIR: the node and the command line must find one place, and it must be short.
        folder = Path("/tmp") / f"tallystick-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise HomeError(f"{folder} is not ours alone", "Remove it, or use a shorter --home")
        return folder / digest

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that writes here; `HomeError` names the other one."""
        lock = self.path / "lock"
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise HomeError(
                f"{lock} cannot be opened: {error.strerror}", "The home must be yours to write in"
            ) from None
        with os.fdopen(handle, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise HomeError(
                    f"the home {self.path} is in use by process {holder}",
                    "A node is running here; stop it first, or use another home",
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield


_KEYS = "log ([0-9a-f]{64})\ncosigner ([0-9a-f]{64})\ntransport ([0-9a-f]{64})\n"


def _public_keys(identity: Identity) -> tuple[bytes, bytes, bytes]:
    return identity.log_key, identity.cosigner_key, identity.transport_key


def _keys_text(identity: Identity) -> str:
    """The file of public keys, so that queries need no seed."""
    log, cosigner, transport = (key.hex() for key in _public_keys(identity))
    return f"log {log}\ncosigner {cosigner}\ntransport {transport}\n"


def create_home(path: Path, name: str, seed: bytes) -> Home:
    """Make a home with its seed in it; `HomeError` if something is there already, and then
    nothing changes.
    """
    return make_home(path, Identity.from_seed(name, seed), f"{seed.hex()}\n")


def make_home(path: Path, identity: Identity, seed_text: str | None) -> Home:
    """Make a home with this text as its seed file, or without one; errors as `create_home`."""
    name = identity.name
    path = path.absolute()
    with whole_home(path) as made:
        for file, text in (
            ("name", f"{name}\n"),
            ("version", f"{HOME_VERSION}\n"),
            ("config.toml", TEMPLATE),
            ("keys", _keys_text(identity)),
            ("seed", seed_text),
        ):
            if text is not None:
                write_new(made / file, text)
    return Home(path, name)


@contextmanager
def whole_home(path: Path) -> Iterator[Path]:
    """A folder beside `path` to build a home in, which takes its place if nothing goes wrong.

    `HomeError` if something is there already, and then nothing changes.
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            if (path / "version").exists():
                raise HomeError(
                    f"there is a home in {path} already", "Use it, or choose another with --home"
                )
            raise HomeError(f"{path} is not empty", "Choose another place with --home")
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(path) as made:
            yield made
    except OSError as error:
        raise HomeError(
            f"{path} cannot be made: {error.strerror}", "Choose another place with --home"
        ) from None


def open_home(path: Path) -> Home:
    """An existing home; `HomeError` if there is none, or a newer version made it."""
    path = path.absolute()
    try:
        version = (path / "version").read_text("ascii").strip()
        name = (path / "name").read_text("ascii").strip()
    except FileNotFoundError:
        raise HomeError(
            f"there is no home in {path}",
            "Make one with: tally init --name YOUR.NAME, or name another with --home",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise HomeError(f"the home in {path} cannot be read: {error}") from None
    if version != str(HOME_VERSION):
        raise HomeError(
            f"the home in {path} has format {version[:20]!r}, this tally knows {HOME_VERSION}",
            "Use the version of tally that made it, or a newer one",
        )
    return Home(path, check_party_name(name))
