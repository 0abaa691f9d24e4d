"""tally audit: everything verified anew, in parallel."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import Steps, folded, print_json, say
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallystick.node.auditing.pools import Pool
    from tallystick.node.auditing.sources import Source

ALONE_RECORDS_MAX = 200_000  # so many are examined sooner than a cluster is started
RECORD_BYTES_MIN = 64  # in a store, about


@verb("audit")
@click.option("--archive", metavar="URL", help="Audit this archive alone; needs no home.")
@click.option(
    "--workers", type=click.IntRange(0, 256), help="Processes to start; 0: only this one."
)
@click.option("--scheduler", metavar="ADDRESS", help="Use a Dask cluster that is there.")
def command(
    context: Context, archive: str | None, workers: int | None, scheduler: str | None
) -> None:
    """Verify a channel's logs whole: chain, trees, signatures, validity, balances.

    The work is cut in pieces and done by as many processes as there are cores, or by a Dask
    cluster, whose workers need this version of tallystick and the same way to the records.
    """
    if scheduler is not None and workers is not None:
        raise InputError("give --workers or --scheduler, not both")
    from tallystick.node.auditing.pools import load_ahead

    if scheduler is None and (workers or (workers is None and _may_be_long(context, archive))):
        load_ahead()
    from tallystick.node.auditing.checks import run_audit

    documents = []
    with ExitStack() as stack:
        opened = _opener(context, archive, workers)
        with Steps() as steps:
            pool_for = partial(_pool, stack, steps, workers, scheduler)
            for check in run_audit(opened, pool_for, steps.tell):
                documents.append({"name": check.name, "ok": check.ok, "detail": check.detail})
                if not context.json:
                    verdict = "ok  " if check.ok else "FAIL"
                    line = f"{check.number:>2} {verdict} {check.name}: {check.detail}"
                    steps.say(folded(line, indent=8))
    good = all(document["ok"] for document in documents)
    if context.json:
        print_json({"ok": good, "checks": documents})
    else:
        say("")
        say("every check holds" if good else "NOT PROVEN")
    if not good:
        raise SystemExit(1)


def _may_be_long(context: Context, archive: str | None) -> bool:
    """Whether there may be too many records for one process, before it is known."""
    if archive is not None:
        return True
    stored = context.open_home().store_path.glob("*")
    return sum(file.stat().st_size for file in stored) > ALONE_RECORDS_MAX * RECORD_BYTES_MIN


def _opener(context: Context, archive: str | None, workers: int | None) -> Callable[[], Source]:
    """What opens the channel that is audited; which one it is, is known before."""
    from tallystick.node.auditing.sources import of_archive, of_home, select_channel

    if archive is not None:
        from tallystick.node.segments.archive import Archive

        place = Archive(archive)
        return partial(of_archive, place, select_channel(place, context.channel))
    with context.books() as books:
        source = of_home(books, books.select(context.channel), workers or _cores())
    return lambda: source


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _pool(
    stack: ExitStack, steps: Steps, workers: int | None, scheduler: str | None, records: int
) -> Pool:
    """The pool for so many records."""
    from tallystick.node.auditing.pools import InProcess, cluster_pool, local_pool

    steps.tell("workers", 0, 0)
    if scheduler is not None:
        return stack.enter_context(cluster_pool(scheduler))
    if workers == 0 or (workers is None and records <= ALONE_RECORDS_MAX):
        return InProcess()
    return stack.enter_context(local_pool(workers or _cores()))
