"""What every verb gets: the global options, and the way to the home and its node."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.protocol.errors import lone_error

if TYPE_CHECKING:
    from tallystick.node.books import Books
    from tallystick.node.home import Home
    from tallystick.node.store.disk import Store


COMPLETING = "_TALLY_COMPLETE"  # what a shell sets that asks for completions


@dataclass(slots=True)
class Context:
    """The global options, wherever on the line they were given."""

    home_path: Path | None = None
    channel: str | None = None
    json: bool = False

    @property
    def home(self) -> Path:
        """Where the home is: --home, TALLYSTICK_HOME, or ~/.tallystick."""
        return self.home_path or place_of_home()[0]

    @property
    def home_from(self) -> str:
        """Which of these it is."""
        return "--home" if self.home_path else place_of_home()[1]

    def open_home(self) -> Home:
        """The home; `HomeError` if there is none."""
        from tallystick.node.home import open_home

        return open_home(self.home)

    @contextmanager
    def books(self) -> Iterator[Books]:
        """The home's books for reading, whether a node runs or not."""
        from tallystick.node.books import Books
        from tallystick.node.process import raise_file_limit

        raise_file_limit()  # the id index of every channel is open meanwhile
        books = Books.open(self.open_home(), read_only=True)
        try:
            yield books
        finally:
            books.close()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The home's store for reading, as it is at this moment."""
        from tallystick.node.store.disk import Store

        store = Store(self.open_home().store_path, read_only=True)
        try:
            yield store
        finally:
            store.close()

    def call(self, method: str, **params: object) -> Any:
        """One request to the running node."""
        import trio

        from tallystick.node.rpc import RpcClient

        home = self.open_home()

        async def ask() -> Any:
            async with RpcClient.connect(home) as client:
                return await client.call(method, **params)

        return _plain(trio.run, ask)

    def ask(self, method: str) -> Any:
        """What only the running node knows; None if none runs."""
        from tallystick.node.errors import NodeUnreachable

        try:
            return self.call(method)
        except NodeUnreachable:
            return None

    def hint(self, text: str) -> None:
        """Tell a person what comes next; on standard error, so that pipes stay clean."""
        if not self.json:
            click.echo(text, err=True)


def place_of_home() -> tuple[Path, str]:
    """Where the home is without --home, and what says so."""
    named = os.environ.get("TALLYSTICK_HOME")
    return (Path(named), "TALLYSTICK_HOME") if named else (Path.home() / ".tallystick", "default")


def _plain(run: Callable[..., Any], function: Callable[..., Any]) -> Any:
    """Run, and take a lone error out of the groups that nurseries wrap it in."""
    try:
        return run(function)
    except BaseExceptionGroup as group:
        raise lone_error(group) from None


def global_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that are taken before and after the verb."""
    for option in (
        click.option("--json", "json_", is_flag=True, help="Print one JSON document."),
        click.option("--channel", metavar="ID|PEER", help="Which channel, if there are several."),
        click.option(
            "--home",
            "home_",
            metavar="DIR",
            type=click.Path(path_type=Path, file_okay=False),
            help="The node's home (default: $TALLYSTICK_HOME, or ~/.tallystick).",
        ),
    ):
        function = option(function)
    return function


def merge(context: Context, home: Path | None, channel: str | None, json: bool) -> None:
    """Take the options of one place on the line; the later place wins."""
    context.home_path = home or context.home_path
    context.channel = channel or context.channel
    context.json = json or context.json


def verb(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a verb: it gets the context first, then its own options."""

    def wrap(function: Callable[..., None]) -> click.Command:
        @click.pass_obj
        def call(
            context: Context,
            /,
            home_: Path | None,
            channel: str | None,
            json_: bool,
            **params: object,
        ) -> None:
            merge(context, home_, channel, json_)
            function(context, **params)

        call.__doc__ = function.__doc__
        call.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        made = click.command(name)(global_options(call))
        if COMPLETING in os.environ:
            from tallystick.node.cli.completing import attach

            attach(made)
        return made

    return wrap


def verbs(name: str) -> Callable[[Callable[[Context], None]], click.Group]:
    """Make a function a verb that has others below it; it is called where none of them is named."""

    def wrap(function: Callable[[Context], None]) -> click.Group:
        @click.pass_context
        def call(
            ctx: click.Context, /, home_: Path | None, channel: str | None, json_: bool
        ) -> None:
            merge(ctx.obj, home_, channel, json_)
            if ctx.invoked_subcommand is None:
                function(ctx.obj)

        call.__doc__ = function.__doc__
        return click.group(name, invoke_without_command=True)(global_options(call))

    return wrap
