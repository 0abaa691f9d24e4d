"""Files that are written whole or not at all, and who may write those of a home."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallystick.node.errors import HomeError, StoreError
from tallystick.node.home import sync


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside `path` to write, which takes its place if nothing goes wrong.

    `StoreError` if it cannot be written; then `path` is as it was.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
        os.close(handle)
        part = Path(name)
        try:
            yield part
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)  # only still there if it did not become the file
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Change files of a home one at a time, over all processes."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise HomeError(f"{folder} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def replace_private(path: Path, data: bytes) -> None:
    """Replace a file durably by one for its owner only. Whoever calls this is `alone` there."""
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.unlink(missing_ok=True)  # a crash may have left it
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        sync(path.parent)
    except OSError as error:
        raise HomeError(f"{path} cannot be written: {error.strerror}") from None
