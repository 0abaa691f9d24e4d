"""The seed as a file: plain, or encrypted under a passphrase; and where secrets are read from.

Encrypted, it is a short text: Argon2id turns the passphrase into a key, XChaCha20-Poly1305 locks
the seed under it, and the lines that say how are authenticated with it. The salt and the nonce are
handed in, so the same input gives the same text. Secrets come from a file descriptor, a file or a
terminal; never from the command line or the environment, which others can see.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from pathlib import Path

from nacl import pwhash
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from tallystick.node.errors import HomeError
from tallystick.protocol.errors import InputError
from tallystick.protocol.keys import SEED_SIZE

TITLE = "tallystick encrypted seed v1"
SALT_SIZE, NONCE_SIZE = pwhash.argon2id.SALTBYTES, 24
OPERATIONS = pwhash.argon2id.OPSLIMIT_MODERATE
MEMORY_BYTES = pwhash.argon2id.MEMLIMIT_MODERATE  # 256 MiB, for half a second or so
OPERATIONS_MAX, MEMORY_BYTES_MAX = 64, 1 << 32  # what a damaged file may ask for
SECRET_BYTES_MAX = 4096

_TEXT = re.compile(
    rf"(?P<head>{TITLE}\n"
    r"kdf argon2id13 (?P<operations>[1-9][0-9]{0,2}) (?P<memory>[1-9][0-9]{3,10})\n"
    r"salt (?P<salt>[A-Za-z0-9+/]{22}==)\n"
    r"cipher xchacha20-poly1305\n"
    r"nonce (?P<nonce>[A-Za-z0-9+/]{32})\n)"
    r"sealed (?P<sealed>[A-Za-z0-9+/]{64})\n"
)


def encrypt_seed(
    seed: bytes,
    passphrase: bytes,
    salt: bytes,
    nonce: bytes,
    operations: int = OPERATIONS,
    memory_bytes: int = MEMORY_BYTES,
) -> str:
    """The encrypted seed's text. `salt` (16 bytes) and `nonce` (24 bytes) are random ones."""
    head = (
        f"{TITLE}\n"
        f"kdf argon2id13 {operations} {memory_bytes}\n"
        f"salt {base64.b64encode(salt).decode()}\n"
        "cipher xchacha20-poly1305\n"
        f"nonce {base64.b64encode(nonce).decode()}\n"
    )
    key = _key(passphrase, salt, operations, memory_bytes)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(seed, head.encode(), nonce, key)
    return f"{head}sealed {base64.b64encode(sealed).decode()}\n"


def is_encrypted(text: str) -> bool:
    """Whether a seed's text is meant to be an encrypted one."""
    return text.startswith("tallystick")


def decrypt_seed(text: str, passphrase: bytes, what: str) -> bytes:
    """The seed of an encrypted seed's text; `HomeError`, naming `what` it is, if it cannot be."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise HomeError(
            f"{what} is damaged or cut: it is not an encrypted seed of version 1",
            "Restore it from your copy of the seed",
        )
    operations, memory = int(match["operations"]), int(match["memory"])
    if operations > OPERATIONS_MAX or memory > MEMORY_BYTES_MAX:
        raise HomeError(f"{what} asks for more work than any seed that tally wrote")
    salt, nonce, sealed = (base64.b64decode(match[name]) for name in ("salt", "nonce", "sealed"))
    key = _key(passphrase, salt, operations, memory)
    head = match["head"].encode()
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, head, nonce, key)
    except CryptoError:
        raise HomeError(
            f"the passphrase does not open {what}", "It is another one, or the file was changed"
        ) from None


def _key(passphrase: bytes, salt: bytes, operations: int, memory_bytes: int) -> bytes:
    try:
        return pwhash.argon2id.kdf(32, passphrase, salt, operations, memory_bytes)
    except (CryptoError, MemoryError):
        raise HomeError(
            f"there are no {memory_bytes >> 20} MiB of memory to make a key of the passphrase"
        ) from None


def parse_seed(text: str, what: str) -> bytes:
    """The seed of a plain seed's text; `HomeError`, naming `what` it is, if it is none."""
    try:
        seed = bytes.fromhex(text.strip())
    except ValueError:
        seed = b""
    if len(seed) != SEED_SIZE:
        raise HomeError(
            f"{what} is damaged: it must hold {SEED_SIZE} bytes in hexadecimal",
            "Restore it from your copy of the seed",
        )
    return seed


def read_descriptor(number: int) -> bytes:
    """A secret that another process hands in through an open file descriptor."""
    try:
        with os.fdopen(number, "rb") as file:
            return _limited(file.read(SECRET_BYTES_MAX + 1), f"file descriptor {number}")
    except OSError as error:
        raise InputError(
            f"file descriptor {number} cannot be read: {error.strerror}",
            f"Open it in the shell: tally … {number}< FILE",
        ) from None


def read_secret(path: Path) -> bytes:
    """A secret in a file that not everybody may read."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & 0o007:
            raise HomeError(
                f"{path} can be read by anybody (mode {mode & 0o777:04o})",
                f"Run: chmod 600 {path} (and think about who may have read it)",
            )
        return _limited(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _limited(data: bytes, what: str) -> bytes:
    if len(data) > SECRET_BYTES_MAX:
        raise InputError(f"{what} holds more than {SECRET_BYTES_MAX} bytes")
    return data


def passphrase_of(data: bytes, what: str) -> bytes:
    """The passphrase in a secret: its first line, as bytes."""
    line = data.split(b"\n", 1)[0].removesuffix(b"\r")
    if not line:
        raise InputError(f"the passphrase from {what} is empty")
    return line


def seed_text(data: bytes, what: str) -> str:
    """The text of a seed that was read from outside a home."""
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise HomeError(f"{what} does not hold a seed") from None
