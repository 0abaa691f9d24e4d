"""The HTTP interface of a running node: its two doors, opened and served.

Whatever goes wrong at a door, the node goes on; only an address that cannot be had stops the start.
"""

from __future__ import annotations

import logging
from pathlib import Path

import trio
from starlette.routing import BaseRoute

from tallystick.node.api.app import World, build, open_paths
from tallystick.node.api.connections import Connections
from tallystick.node.api.doors import KeyedDoor, OwnersDoor
from tallystick.node.api.keys import ApiKeys
from tallystick.node.api.limits import Limits
from tallystick.node.api.listening import hosts_of, listen
from tallystick.node.api.operations import Operation
from tallystick.node.api.pacspace.interface import PREFIXES, Interface
from tallystick.node.api.pacspace.wire import refused_at_door
from tallystick.node.api.reading import Reader
from tallystick.node.api.routes import (
    balances,
    channels,
    closing,
    deltas,
    disputes,
    events,
    intake,
    observing,
    statements,
)
from tallystick.node.api.rpc import Rpc
from tallystick.node.config import Config, Http
from tallystick.node.console.app import Console
from tallystick.node.intake.sink import EventSink
from tallystick.node.node import Node
from tallystick.node.service import Service
from tallystick.node.telemetry.monitor import Monitor

OWNERS_CONNECTIONS_MAX = 4096

_log = logging.getLogger("tallystick.api")


def operations(config: Config) -> list[Operation]:
    """Every operation of the native interface."""
    modules = (channels, deltas, intake, balances, closing, statements, disputes, events)
    native = [operation for module in modules for operation in module.OPERATIONS]
    return [*native, *observing.operations(config.metrics)]


class HttpServer:
    """Serves one node. `address` is where TCP listens, once it does; empty for none."""

    def __init__(self, node: Node, service: Service, monitor: Monitor) -> None:
        self._node = node
        self._service = service
        self._monitor = monitor
        self.keys = ApiKeys(node.home)
        self._pacspace = Interface(node.books)
        rules = node.books.config.intake.cloudevents
        self._events = EventSink(node.books, rules, node.home.path, service.record)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once both doors are open. The caller holds the home's
        lock.
        """
        config = self._node.books.config.http
        offered = operations(self._node.books.config)
        counted = self._monitor.http.middleware
        others: list[BaseRoute] = [*self._pacspace.routes]
        own_rules: tuple[str, ...] = (*PREFIXES, "/console/")
        async with trio.open_nursery() as working, trio.open_nursery() as nursery:
            reader = Reader(self._node.books)
            world = World(
                self._node, self._service, reader, self.keys, self._monitor, self._events, working
            )
            console = Console(world)
            methods = {**self._service.methods, **self._monitor.methods, **console.methods}
            rpc = Rpc(methods, working)
            owners = Connections(
                counted(OwnersDoor(build(world, offered, [*others, *rpc.routes]))),
                OWNERS_CONNECTIONS_MAX,
            )
            await nursery.start(serve_socket, owners, self._node.home.socket_path)
            if config.listen:
                listeners = await self._listen(config, nursery)
                door = KeyedDoor(
                    build(world, offered, [*others, *console.routes]),
                    self.keys,
                    Limits(config),
                    hosts_of(config),
                    open_paths(offered) | {"/console"},
                    own_rules,
                    dict.fromkeys(PREFIXES, refused_at_door),
                    console.visitor,
                )
                served = Connections(counted(door), config.connections)
                nursery.start_soon(served.serve, listeners)
            task_status.started()

    async def _listen(self, config: Http, nursery: trio.Nursery) -> list[trio.SocketListener]:
        """Listen on TCP. With port 0, on the same port as last time if it is free."""
        books = self._node.books
        last = books.last_port("http-port")
        listeners, url = await listen("http", config.listen, remote=config.remote, last=last)
        self._service.http_address = url
        port = listeners[0].socket.getsockname()[1]
        if port != last:
            nursery.start_soon(books.remember_port, port, "http-port")
        _log.info("HTTP for programs and browsers", extra={"address": url})
        return listeners


async def serve_socket(
    owners: Connections,
    path: Path,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on a Unix socket that is its owner's alone; the caller holds the home's lock."""
    path.unlink(missing_ok=True)
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        await listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(64)
        task_status.started()
        await owners.serve([trio.SocketListener(listener)])
    finally:
        listener.close()
        path.unlink(missing_ok=True)
