"""tally run: serve peers and the command line until told to stop."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

import click
import trio

from tallystick.node.api.server import HttpServer
from tallystick.node.books import Books
from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.secrets import find_seed, secret_options
from tallystick.node.home import Home, open_home
from tallystick.node.node import Node
from tallystick.node.service import Service
from tallystick.node.store.residency import give_back_freed


@verb("run")
@click.option("--listen", metavar="HOST:PORT", help="Where peers connect (default: the config's).")
@secret_options
def command(
    context: Context, listen: str | None, passphrase_fd: int | None, seed_fd: int | None
) -> None:
    """Run the node in the foreground; SIGTERM or Ctrl-C stops it cleanly.

    Prints one line to standard output when it serves: ready NAME HOST:PORT.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    give_back_freed()
    home = open_home(context.home)
    with home.lock():
        identity = home.unlock(find_seed(home, passphrase_fd, seed_fd))
        books = Books.open(home, read_only=False, identity=identity)
        try:
            trio.run(_serve, home, books, listen or books.config.network.listen)
        finally:
            books.close()


async def _serve(home: Home, books: Books, listen: str) -> None:
    node = Node(home, books)
    server = HttpServer(node, Service(node))

    def ready(address: str) -> None:
        print(f"ready {books.identity.name} {address}", flush=True)  # noqa: T201

    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_on_signal, node, nursery.cancel_scope.cancel)
        await nursery.start(server.serve)
        nursery.start_soon(node.run, listen, ready)


async def _stop_on_signal(
    node: Node,
    cancel: Callable[[], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            logging.getLogger("tallystick.node").info("stopping")
            # The store's task still runs here, so what is in memory can be written.
            with trio.move_on_after(10):
                await node.stop()
            cancel()
            return
