"""Comparisons of uploaded files: each a process of its own, `tally compare`, within limits.

Whatever a file does to it, the node goes on: the process may take so much time, memory and disk,
one runs at a time, and what it made is read as data. Files stay in the home, for as long as the
node runs and only for the newest comparisons.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio
from starlette.datastructures import UploadFile

from tallystick.node.api.problems import Refused
from tallystick.node.config import ConsoleSettings
from tallystick.node.errors import StoreError
from tallystick.node.home import Home
from tallystick.node.quotas import MEBIBYTE
from tallystick.protocol.errors import InputError
from tallystick.protocol.records import Terms

KEPT = 6  # comparisons
SAID_MAX = 4_000  # characters of what it says when it fails
OUTPUT_MAX = 64 * MEBIBYTE
FILE_MAX = 1024 * MEBIBYTE  # bytes of any file that it writes
_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
_CHUNK = 256 * 1024
_PLACE = re.compile(r"/\S*/")

_log = logging.getLogger("tallystick.console")

# Limits are set inside of the new process, before it reads anything; of memory, of what it writes
# to: the store alone maps more than there is.
_CHILD = """\
import os, resource, sys
seconds, memory, disk = map(int, sys.argv[1:4])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.nice(10)
sys.argv = ["tally", *sys.argv[4:]]
from tallystick.node.cli import main
main()
"""


@dataclass(slots=True)
class Job:
    """One comparison: what it is of, and what came of it once it is `done`."""

    id: str
    channel: bytes
    period: str
    file_name: str
    folder: Path
    done: trio.Event = field(default_factory=trio.Event)
    fault: str = ""
    advice: str = ""
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def page(self) -> Path:
        """The report that it wrote."""
        return self.folder / "report.html"

    @property
    def events(self) -> Path | None:
        """The events behind the steps, if there are any."""
        found = self.folder / "events.csv"
        return found if found.exists() else None


def mapping_template(terms: Terms) -> str:
    """A mapping for a channel's meters, to be filled in."""
    lines = [
        'time    = { column = "time", zone = "UTC" }',
        'id      = { column = "id" }',
        'subject = { column = "subject" }',
    ]
    for meter in terms.meters:
        lines += [
            "[[meter]]",
            f'meter = "{meter.name}"',
            f'quantity = {{ column = "{meter.name}" }}',
        ]
    return "\n".join(lines) + "\n"


class Comparisons:
    """The newest comparisons of a running node."""

    def __init__(self, home: Home, settings: ConsoleSettings) -> None:
        self._home = home
        self._settings = settings
        self._folder = home.path / "comparisons"
        self._jobs: dict[str, Job] = {}
        self._busy = False
        shutil.rmtree(self._folder, ignore_errors=True)  # of an earlier run

    def of(self, channel: bytes, period: str) -> list[Job]:
        """The comparisons of a period, the newest first."""
        found = [j for j in self._jobs.values() if (j.channel, j.period) == (channel, period)]
        return found[::-1]

    def find(self, id: str) -> Job:
        """A comparison; `Refused` (404) if it is not here any more."""
        if id not in self._jobs:
            raise Refused(404, "this comparison is not kept any more", "Upload the file again")
        return self._jobs[id]

    async def begin(
        self, channel: bytes, period: str, upload: UploadFile, mapping: str, nursery: trio.Nursery
    ) -> Job:
        """Begin to compare an uploaded file; `Refused` (503) while another one is compared."""
        if self._busy:
            raise Refused(503, "another file is being compared", "Try again when it is done")
        given = Path(upload.filename or "").name
        suffix = Path(given).suffix.lower()
        if not given or not upload.size:
            raise InputError("no file was chosen, or it is empty", "Choose an export of yours")
        if suffix not in _SUFFIXES:
            raise InputError(
                f"{given[:80]!r} is of a kind that is not read", f"Use {', '.join(_SUFFIXES)}"
            )
        id_ = secrets.token_hex(8)
        job = Job(id_, channel, period, given[:200], self._folder / id_)
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in given)
        file = job.folder / (safe[-80:].lstrip(".") or f"export{suffix}")
        self._busy = True
        try:
            await _write(job.folder, file, upload, mapping)
        except BaseException:
            self._busy = False
            shutil.rmtree(job.folder, ignore_errors=True)
            raise
        self._keep(job)
        nursery.start_soon(self._run, job, file)
        return job

    def _keep(self, job: Job) -> None:
        self._jobs[job.id] = job
        while len(self._jobs) > KEPT:
            oldest = self._jobs.pop(next(iter(self._jobs)))
            shutil.rmtree(oldest.folder, ignore_errors=True)

    async def _run(self, job: Job, file: Path) -> None:
        try:
            await self._compare(job, file)
        except Exception:  # noqa: BLE001 - a comparison must not take the node with it
            _log.exception("a comparison failed inside the node")
            job.fault = "the comparison failed inside the node; its log says why"
        finally:
            self._busy = False
            file.unlink(missing_ok=True)
            job.done.set()

    async def _compare(self, job: Job, file: Path) -> None:
        settings = self._settings
        limits = (settings.compare_seconds, settings.compare_mebibytes * MEBIBYTE, FILE_MAX)
        command = [
            sys.executable, "-c", _CHILD, *map(str, limits), "--home", str(self._home.path),
            "compare", str(file), "--period", job.period, "--map", str(job.folder / "map.toml"),
            "--channel", job.channel.hex(), "--html", str(job.page),
            "--csv", str(job.folder / "events.csv"), "--json",
        ]  # fmt: skip
        said, told = job.folder / "said.json", job.folder / "told.txt"
        try:
            with said.open("wb") as out, told.open("wb") as err:
                process = await trio.lowlevel.open_process(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    start_new_session=True, env=_environment(),
                )  # fmt: skip
            with trio.move_on_after(settings.compare_seconds) as waiting:
                await process.wait()
        except OSError as error:
            job.fault = f"the comparison cannot be started: {error.strerror}"
            return
        finally:
            with contextlib.suppress(UnboundLocalError, ProcessLookupError):
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    with trio.CancelScope(shield=True):
                        await process.wait()
        if waiting.cancelled_caught:
            job.fault = f"the comparison took more than {settings.compare_seconds} seconds"
            job.advice = "A large file is compared with: tally compare FILE"
            return
        self._take(job, process.returncode or 0, said, told)

    def _take(self, job: Job, code: int, said: Path, told: Path) -> None:
        """Read what the process made: data, whatever it says."""
        document: Any = None
        if said.stat().st_size <= OUTPUT_MAX:
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                document = msgspec.json.decode(said.read_bytes())
        if isinstance(document, dict) and "meters" in document and code in (0, 1):
            job.document = document
            return
        error = document.get("error") if isinstance(document, dict) else None
        if isinstance(error, dict):
            job.fault, job.advice = _pathless(str(error.get("message"))), str(error.get("advice"))
            return
        text = _end_of(told)
        killed = code < 0 or "MemoryError" in text or "Out of Memory" in text
        job.fault = (
            "the comparison was stopped: it needs more time or memory than it may take here"
            if killed or not text
            else f"the comparison failed: {_pathless(text.splitlines()[-1])}"
        )
        job.advice = "A large file is compared with: tally compare FILE"


async def _write(folder: Path, file: Path, upload: UploadFile, mapping: str) -> None:
    """Put an upload and its mapping into a folder of their own."""
    try:
        folder.mkdir(parents=True, mode=0o700)
        (folder / "map.toml").write_text(mapping, encoding="utf-8")
        with file.open("wb") as out:
            while piece := await upload.read(_CHUNK):
                out.write(piece)
    except OSError as error:
        raise StoreError(f"the file cannot be kept: {error.strerror}") from None
    except UnicodeEncodeError:
        raise InputError("the mapping is not UTF-8") from None


def _end_of(file: Path) -> str:
    """The end of a text, however long that is."""
    with file.open("rb") as opened:
        opened.seek(max(file.stat().st_size - SAID_MAX, 0))
        return opened.read(SAID_MAX).decode("utf-8", "replace").strip()


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "TALLYSTICK_DEBUG"}


def _pathless(text: str) -> str:
    """A sentence without the folders of this machine."""
    return _PLACE.sub("", text)
