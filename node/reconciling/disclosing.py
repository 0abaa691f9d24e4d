"""What a session opens, on the disk before it leaves, so that a kill hides no disclosure.

Before a page of rows is sent, a small file in the home's `reconciled/` says how many rows will have
been opened with it, and their digest. The `Disclosure` record takes the file's place. A node that
finds one when it starts was killed in between, and records what it says: no fewer rows than were
opened, since the last page may never have left.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Annotated

import msgspec
import trio
from msgspec import Meta, Struct

from tallystick.node.channel import Channel
from tallystick.node.files import PRIVATE, write_whole
from tallystick.node.reconciling import kept
from tallystick.protocol.records import Disclosure

SUFFIX = ".opening"
_HALF = re.compile(r"\.[0-9a-f]{40,64}\.")  # how names of what is not yet whole begin

_log = logging.getLogger("tallystick.reconciling")

_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, Meta(ge=0)]


class Opened(Struct, frozen=True, forbid_unknown_fields=True):
    """What a session has opened, or will have with the page that is about to be sent. `prepared`
    names the set of rows.
    """

    channel: _Digest
    session: _Digest
    peer: str
    period: str
    prepared: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    opened: _Count
    received: _Count
    digest: _Digest

    def record(self, recorded_at: int) -> Disclosure:
        """As our log says it."""
        return Disclosure(
            bytes.fromhex(self.session),
            self.period,
            self.opened,
            self.received,
            bytes.fromhex(self.digest),
            recorded_at,
        )


def note(home: Path, opened: Opened) -> None:
    """Write durably what will have been opened; `StoreError` if that fails."""
    kept.make_folder(home)
    write_whole(_path(home, opened), msgspec.json.encode(opened), PRIVATE)


def forget(home: Path, opened: Opened) -> None:
    """Remove it: our log says it now."""
    _path(home, opened).unlink(missing_ok=True)


def _path(home: Path, opened: Opened) -> Path:
    return home / kept.FOLDER / f"{opened.session}{SUFFIX}"


def left(home: Path) -> list[Opened]:
    """What an earlier start left to be recorded; half-written things of that start are removed."""
    folder = home / kept.FOLDER
    for path in folder.glob(".*"):
        if _HALF.match(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif _HALF.match(path.name):
            path.unlink(missing_ok=True)
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Opened))
        except (OSError, msgspec.MsgspecError) as error:
            _log.error(
                "what was opened in a session cannot be read",
                extra={"file": str(path), "reason": error},
            )
    return found


async def disclose(channel: Channel, home: Path, opened: Opened) -> None:
    """Have our log say what was opened, once, however often this is begun."""

    def make() -> Disclosure | None:
        if any(
            isinstance(said, Disclosure) and said.session.hex() == opened.session
            for _, said in channel.own.matters(channel.own.durable_size)
        ):
            return None
        return opened.record(channel.now_recorded_at())

    await channel.append_made(make)
    await trio.to_thread.run_sync(forget, home, opened)
