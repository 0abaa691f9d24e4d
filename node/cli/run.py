"""tally run: serve peers and the command line until told to stop."""

from __future__ import annotations

import click
import msgspec
import trio

from tallystick.node.api.server import HttpServer
from tallystick.node.books import Books
from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.secrets import find_seed, secret_options
from tallystick.node.config import load_config
from tallystick.node.home import Home, open_home
from tallystick.node.node import Node
from tallystick.node.process import (
    check_file_limit,
    collect_seldom,
    lasting,
    on_signal,
    raise_file_limit,
    reuse_freed,
)
from tallystick.node.service import Service
from tallystick.node.standby.mode import check_not_superseded, primary_of
from tallystick.node.telemetry.lines import Lines
from tallystick.node.telemetry.monitor import Monitor
from tallystick.node.telemetry.outgoing import watch_outgoing
from tallystick.node.witnessing.serving import WitnessDoor
from tallystick.node.witnessing.telling import watch_witnesses


@verb("run")
@click.option("--listen", metavar="HOST:PORT", help="Where peers connect (default: the config's).")
@secret_options
def command(
    context: Context, listen: str | None, passphrase_fd: int | None, seed_fd: int | None
) -> None:
    """Run the node in the foreground; SIGTERM or Ctrl-C stops it cleanly.

    Prints one line to standard output when it serves: ready NAME HOST:PORT. In the home of a
    standby: standby NAME HOST:PORT, of its primary; and the line ready … once it is promoted.
    """
    reuse_freed()
    files = raise_file_limit()
    home = open_home(context.home)
    with home.lock():
        seed = find_seed(home, passphrase_fd, seed_fd)
        lines = Lines(load_config(home.config_path).log, [seed.hex()])
        identity = home.unlock(seed)
        check_not_superseded(home)
        if primary_of(home) is not None:
            from tallystick.node.standby.standby import serve_standby

            if not trio.run(serve_standby, home, identity):
                return
        with lasting():
            books = Books.open(home, read_only=False, identity=identity)
        check_file_limit(files, len(books.peers))
        flags = {}
        if listen:
            flags["network.listen"] = "--listen"
            network = msgspec.structs.replace(books.config.network, listen=listen)
            books.config = msgspec.structs.replace(books.config, network=network)
        try:
            trio.run(_serve, home, books, lines, flags)
        finally:
            books.close()
        check_not_superseded(home)


async def _serve(home: Home, books: Books, lines: Lines, flags: dict[str, str]) -> None:
    node = Node(home, books)
    monitor = Monitor(node, lines.counts, flags)
    watch_outgoing(monitor)
    service = Service(node)
    door = WitnessDoor(books)
    service.methods = {**service.methods, **watch_witnesses(monitor, node.submitter, door)}
    server = HttpServer(node, service, monitor)

    def ready(address: str) -> None:
        collect_seldom()
        print(f"ready {books.identity.name} {address}", flush=True)  # noqa: T201
        monitor.serving(address)

    async def stop() -> None:
        monitor.stopping()
        # The store's task still runs here, so what is in memory can be written.
        with trio.move_on_after(10):
            await node.stop()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(on_signal, stop)
        nursery.start_soon(monitor.run)
        await nursery.start(door.serve)
        await nursery.start(server.serve)
        nursery.start_soon(node.run, books.config.network.listen, ready)
        await node.superseded.wait()
        monitor.stopping()
        nursery.cancel_scope.cancel()
