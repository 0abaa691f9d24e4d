"""Fuzz the decoders of foreign bytes with coverage guidance, or replay one input; see
docs/testing.md and tests/fuzzing.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import click
from fuzzing import seeds
from fuzzing.contract import remove_scratch
from fuzzing.mutation import INPUT_BYTES_MAX
from fuzzing.targets import TARGETS

from tallystick.protocol.errors import InputError, TallyError

WORK = Path(".fuzz")
SECONDS = 30
INPUT_SECONDS_MAX = 20  # one input that takes longer is a finding
MEMORY_MB_MAX = 2048
KEPT_MAX = 16  # files of a target's kept corpus
KEPT_BYTES_MAX = 1024  # of each of them


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of libFuzzer said of itself, and the inputs that it stopped at."""

    executions: int
    edges: int
    inputs: int
    findings: list[Path]


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET…] | TARGET FILE")
@click.option("--seconds", default=SECONDS, show_default=True, help="How long to fuzz each target.")
@click.option("--list", "listing", is_flag=True, help="Print the targets' names and leave.")
@click.option(
    "--keep", is_flag=True, help="Add small inputs that reach new code to the kept corpus."
)
def main(targets: tuple[str, ...], seconds: int, listing: bool, keep: bool) -> None:
    """Fuzz TARGETs (all of them without one), one after the other, or replay FILE through one.

    What is found on the way stays in .fuzz/TARGET and is where the next run begins. Exits with 1
    if an input broke a decoder's contract; its file and how to replay it are printed.
    """
    if listing:
        print("\n".join(TARGETS))
        return
    try:
        if len(targets) == 2 and targets[1] not in TARGETS:
            raise SystemExit(_replay(_known(targets[0]), Path(targets[1])))
        names = [_known(name) for name in targets] or list(TARGETS)
        if importlib.util.find_spec("atheris") is None:
            raise InputError(
                "atheris is not installed: it has no wheel for this Python or system",
                "Run this on Linux with CPython; the tests' own seeded run works everywhere",
            )
    except TallyError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    broken = 0
    for name in names:
        outcome = _run(name, seconds)
        print(
            f"{name:<15} {outcome.executions:>9} executions, {outcome.edges:>5} edges,"
            f" {outcome.inputs:>5} inputs: {'BROKEN' if outcome.findings else 'ok'}",
            flush=True,
        )
        for path in outcome.findings:
            broken += 1
            print(f"  replay: scripts/fuzz {name} {path}")
        if keep:
            print(f"  kept {_keep(name)} inputs")
    print(f"{len(names)} targets, {broken} broken")
    raise SystemExit(broken > 0)


def _known(name: str) -> str:
    if name not in TARGETS:
        raise InputError(f"there is no target {name!r}", f"Targets: {', '.join(TARGETS)}")
    return name


def _replay(name: str, path: Path) -> int:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        TARGETS[name](data)
    except Exception:  # noqa: BLE001 - whatever it is, it is what was to be shown
        traceback.print_exc()
        print(f"{name}: BROKEN by {path}")
        return 1
    finally:
        remove_scratch()
    print(f"{name}: ok")
    return 0


def _write_seeds(name: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, data in enumerate(seeds.of(name)):
        (folder / str(number)).write_bytes(data)


def _guided(name: str, arguments: list[str]) -> str:
    """Run the target's process and return what it wrote; the same is left in a file."""
    command = [sys.executable, "-m", "fuzzing.guided", name, *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
    (WORK / name / "output.txt").write_text(said)
    if not re.search(r"^(#[0-9]+|MERGE-OUTER)", said, re.MULTILINE):
        raise SystemExit(f"{name} did not run:\n{said}")
    return said


def _run(name: str, seconds: int) -> Outcome:
    begin, found, broken = (WORK / name / part for part in ("seeds", "found", "broken"))
    _write_seeds(name, begin)
    found.mkdir(exist_ok=True)
    shutil.rmtree(broken, ignore_errors=True)
    broken.mkdir()
    said = _guided(
        name,
        [
            str(found),
            str(begin),
            f"-max_total_time={seconds}",
            f"-max_len={INPUT_BYTES_MAX}",
            f"-timeout={INPUT_SECONDS_MAX}",
            f"-rss_limit_mb={MEMORY_MB_MAX}",
            f"-artifact_prefix={broken}/",
            "-print_final_stats=1",
        ],
    )
    return Outcome(
        _last_number(r"number_of_executed_units: +([0-9]+)", said)
        or _last_number(r"#([0-9]+)\t", said),
        _last_number(r"cov: ([0-9]+)", said),
        len(list(found.iterdir())),
        sorted(path for path in broken.iterdir() if not path.name.startswith("slow-unit")),
    )


def _last_number(pattern: str, said: str) -> int:
    found = re.findall(pattern, said)
    return int(found[-1]) if found else 0


def _keep(name: str) -> int:
    """Add to the kept corpus what reaches code that the seeds and the corpus do not."""
    merged = WORK / name / "merged"
    _write_seeds(name, merged)
    before = set(merged.iterdir())
    _guided(name, ["-merge=1", str(merged), str(WORK / name / "found")])
    new = sorted(set(merged.iterdir()) - before, key=lambda path: (path.stat().st_size, path.name))
    folder = seeds.CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    room = max(KEPT_MAX - len(list(folder.iterdir())), 0)
    small = [path for path in new if path.stat().st_size <= KEPT_BYTES_MAX]
    # The smallest reach the least: the whole range of sizes is taken evenly.
    kept = [small[at * len(small) // room] for at in range(room)] if len(small) > room else small
    for path in kept:
        shutil.copyfile(path, folder / path.name)
    return len(kept)


if __name__ == "__main__":
    main()
