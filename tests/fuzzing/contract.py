"""What every decoder promises: a value, or an error of the kinds that it documents."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

from tallystick.protocol.errors import TallyError

T = TypeVar("T")

# Files of the targets that read files; in memory where the system has such a place.
_SHARED = Path("/dev/shm")
_folder: Path | None = None


def attempt(
    refusals: type[TallyError] | tuple[type[TallyError], ...],
    function: Callable[..., T],
    *arguments: Any,
) -> T | None:
    """The function's value, or None if it refused as it says it does; other errors pass."""
    try:
        return function(*arguments)
    except refusals as error:
        assert error.message
        str(error).encode()  # a lone surrogate could not be shown on any terminal
        return None


def text_of(data: bytes) -> str:
    """Any text at all, lone surrogates included."""
    return data.decode("utf-8", "surrogateescape")


def _scratch() -> Path:
    global _folder
    if _folder is None:
        _folder = Path(mkdtemp(prefix="tally-fuzz-", dir=_SHARED if _SHARED.is_dir() else None))
    return _folder


def scratch_file(name: str, content: bytes) -> Path:
    """A file with this content, overwritten by the next of its name."""
    path = _scratch() / name
    path.write_bytes(content)
    return path


def scratch_folder(name: str) -> Path:
    """A folder, with whatever was put in it."""
    path = _scratch() / name
    path.mkdir(exist_ok=True)
    return path


def remove_scratch() -> None:
    """Delete the scratch files and folders."""
    global _folder
    if _folder is not None:
        shutil.rmtree(_folder)
        _folder = None
