"""Files and folders that are written whole or not at all, and stay so when the power goes."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallystick.node.errors import StoreError

PRIVATE = 0o600  # for the owner only


@contextmanager
def whole_file(path: Path, mode: int | None = None) -> Iterator[Path]:
    """A file beside `path` to write, which takes its place durably if nothing goes wrong.

    Without a `mode` it may be read by those who may read the file that it replaces, or by those
    whom the umask leaves.
    `StoreError` if it cannot be written; then `path` is as it was. What is no file, as a pipe, is
    written itself.
    """
    try:
        if path.exists() and not path.is_file():
            yield path
            return
        place = Path(os.path.realpath(path))  # a link stays one
        if mode is None and place.exists():
            mode = place.stat().st_mode & 0o777
        part = place.with_name(f".{place.name[:40]}.{secrets.token_hex(4)}")
        os.close(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        )
        try:
            yield part
            if mode is not None:
                part.chmod(mode)  # whatever the umask is
            sync(part)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)  # only still there if it did not become the file
        sync(place.parent)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from None


def write_whole(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write all of a file; see `whole_file`."""
    with whole_file(path, mode) as part:
        part.write_bytes(data)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path`, for its owner only, that is renamed to it if nothing goes wrong."""
    made = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield made
        sync(made)
        made.rename(path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    sync(path.parent)


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet durably, for its owner only."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Make a folder's names, or a file's content, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Change files of a folder while no other process does so."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(f"{folder} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
