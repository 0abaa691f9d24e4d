"""What machine, and what versions: figures mean nothing without them."""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("trio", "msgspec", "lmdb", "PyNaCl", "cryptography", "numpy", "pyarrow", "duckdb")


def facts(folder: Path) -> dict[str, Any]:
    """The machine, and the disk on which a folder is."""
    return {
        "cpu": _cpu(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "system": f"{platform.system()} {platform.release()}",
        "disk": disk_kind(folder),
        "python": platform.python_version(),
        "versions": {"openssl": ssl.OPENSSL_VERSION, **{name: version(name) for name in PACKAGES}},
        "commit": _commit(),
    }


def load_average() -> list[float]:
    """How many tasks wanted a processor over one, five and fifteen minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def disk_kind(folder: Path) -> str:
    """The kind of file system that a folder is on; empty if the system does not tell."""
    try:
        rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    there = folder.resolve()
    mounts = [(row[1], row[2]) for row in rows if there.is_relative_to(row[1])]
    return max(mounts, key=lambda mount: len(mount[0]))[1] if mounts else ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _commit() -> str:
    """The code that was measured, with a mark if it is not as it was committed."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        shown = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return shown.stdout.strip()


def warn_of_memory_disk(folder: Path) -> None:
    """Say it if nothing there is ever written to a disk."""
    if disk_kind(folder) in ("tmpfs", "ramfs"):
        print(
            "warning: the temporary folder is in memory, where an fsync costs nothing;"
            " set TMPDIR to a folder on a disk",
            file=sys.stderr,
        )
