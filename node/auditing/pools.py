"""Where work is done: in this process, or on the workers of a Dask cluster.

A pool hands out a `Handle` for each piece of work; a handle, or a list of them, can be an argument
of other work, and what is large then stays where it was made. Without a cluster named, one is
started on this machine: a process a worker, bound to the loopback interface, its connections
encrypted under a certificate that lives as long as it does, so that nobody else here can use it.
These processes are forked from one that loads everything while this one does other things.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from tallystick.node.errors import ClusterError
from tallystick.protocol.errors import TallyError

CONNECT_SECONDS = 10
# From one process that has loaded this, before it has any thread; only Linux forks such safely.
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
LOADED = ("distributed.nanny", "distributed.worker", "tallystick.node.auditing.work")
# What goes on beside the work, of a cluster that lives for seconds: by default all processes look
# fifty times a second whether they are late, and at what they do and hold.
QUIET = {
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.limit": "1h",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.memory.monitor-interval": "1s",
}
# A worker has the task that it does and no other waiting, so none is left with two at the end.
BALANCED = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing-interval": "100ms",
}


class Handle(Protocol):
    """Work that was handed out."""


class Pool(Protocol):
    """Does work, some of it at the same time."""

    workers: int

    def submit(
        self, work: Callable[..., Any], *columns: Sequence[Any], first: bool = False
    ) -> list[Handle]:
        """Have work done once for each place of the columns, which hold its arguments; these may be
        handles, or lists of them. What is small may go `first`, before what was handed out earlier.
        """

    def results(self, handles: Sequence[Handle]) -> Iterator[tuple[int, Any]]:
        """The results as they come, each with the place of its handle."""


class _Here:
    """Work of the pool in this process, done when it is asked for."""

    def __init__(self, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self._work: Callable[..., Any] | None = work
        self._arguments = arguments
        self._result: Any = None

    def result(self) -> Any:
        if self._work is not None:
            self._result = self._work(*map(_resolved, self._arguments))
            self._work, self._arguments = None, ()
        return self._result


def _resolved(argument: Any) -> Any:
    if isinstance(argument, _Here):
        return argument.result()
    if isinstance(argument, list):
        return [_resolved(one) for one in argument]
    return argument


class InProcess:
    """A pool without any other process: for what is too small to be worth one."""

    workers = 1

    def submit(
        self, work: Callable[..., Any], *columns: Sequence[Any], first: bool = False
    ) -> list[Handle]:
        """See `Pool`."""
        return [_Here(work, arguments) for arguments in zip(*columns, strict=True)]

    def results(self, handles: Sequence[Handle]) -> Iterator[tuple[int, Any]]:
        """See `Pool`."""
        for place, handle in enumerate(handles):
            yield place, _resolved(handle)


class DaskPool:
    """A pool on the workers of a cluster."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.workers = max(sum(client.nthreads().values()), 1)

    def submit(
        self, work: Callable[..., Any], *columns: Sequence[Any], first: bool = False
    ) -> list[Handle]:
        """See `Pool`; all in one message, which costs half of one for each."""
        handles: list[Handle] = self._client.map(work, *columns, pure=False, priority=int(first))
        return handles

    def results(self, handles: Sequence[Handle]) -> Iterator[tuple[int, Any]]:
        """See `Pool`."""
        import distributed

        places = {handle.key: place for place, handle in enumerate(handles)}  # type: ignore[attr-defined]
        try:
            completed: Any = distributed.as_completed
            for future, result in completed(handles, with_results=True):
                yield places[future.key], result
        except TallyError:
            raise
        except Exception as error:
            raise ClusterError(f"the cluster did not do the work: {_said(error)}", _WAY) from error


_WAY = (
    "Workers need this version of tallystick, the home or archive at the same place, and memory"
    " for a piece"
)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]


def load_ahead() -> None:
    """Have the process from which workers are forked load what they need, while this one goes on;
    for whoever will probably want a `local_pool`.
    """
    if METHOD == "forkserver":
        from multiprocessing import forkserver

        # Threads of this library would not be in what is forked; workers have one each anyway.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        multiprocessing.get_context(METHOD).set_forkserver_preload(list(LOADED))
        forkserver.ensure_running()


@contextmanager
def local_pool(workers: int) -> Iterator[Pool]:
    """A pool of so many processes on this machine."""
    load_ahead()
    distributed = _distributed(
        {"distributed.worker.multiprocessing-method": METHOD, **QUIET, **BALANCED}
    )
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    protocol="tls://",
                    security=distributed.Security.temporary(),
                    silence_logs=logging.CRITICAL,
                )
            )
            client = stack.enter_context(distributed.Client(cluster))
            client.wait_for_workers(workers)
        except (OSError, TimeoutError, RuntimeError) as error:
            raise ClusterError(
                f"no workers could be started: {_said(error)}", "Audit with --workers 0"
            ) from error
        yield DaskPool(client)


@contextmanager
def cluster_pool(scheduler: str) -> Iterator[Pool]:
    """The workers of a cluster that is there."""
    distributed = _distributed({})
    with ExitStack() as stack:
        try:
            client = stack.enter_context(distributed.Client(scheduler, timeout=CONNECT_SECONDS))
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            raise ClusterError(
                f"the scheduler {scheduler} cannot be reached, or has no worker: {_said(error)}",
                "Start them: dask scheduler, and dask worker --nthreads 1 with its address",
            ) from error
        yield DaskPool(client)


def _distributed(settings: dict[str, object]) -> Any:
    """The package, loaded by whoever audits and nobody else; its log is not for people."""
    import dask.config
    import distributed

    # Workers would look a hundred times a second at what they are doing, for a page nobody opens.
    dask.config.set({"distributed.worker.profile.enabled": False, **settings})
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    return distributed
