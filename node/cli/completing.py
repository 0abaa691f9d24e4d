"""Values for completion in the shell: channels, periods and peers.

It runs at each press of a key, so it loads little: it reads the store's rows itself, writes
nothing, and says nothing about what goes wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from tallystick.node.store.keyspace import ChannelRow

PERIODS_SHOWN = 14
SUM_SIZE = 8  # behind each value in the store; a wrong one is the verbs' to name


def attach(command: click.Command) -> None:
    """Give the parameters of a verb that are channels, periods or peers their values."""
    for parameter in command.params:
        complete = _BY_NAME.get(parameter.name or "")
        if complete is not None and type(parameter.type) is type(click.STRING):
            parameter.shell_complete = _quietly(complete)  # type: ignore[method-assign, assignment]


Items = Iterable[tuple[str, str]]
Complete = Callable[["_Store", click.Context], Items]


def _quietly(complete: Complete) -> Callable[[click.Context, str], list[CompletionItem]]:
    def values(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        try:
            with _opened(ctx) as store:
                found = dict(complete(store, ctx))
        except Exception:  # noqa: BLE001 - a person is typing: nothing to say to him
            return []
        return [
            CompletionItem(value, help=said)
            for value, said in found.items()
            if value.startswith(incomplete)
        ]

    return values


class _Store:
    """The rows of a home's store."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """A table's keys and values."""
        found = self._environment.open_db(table.encode(), create=False)
        with self._environment.begin(db=found) as txn:
            for key, stored in txn.cursor():
                yield key, stored[:-SUM_SIZE]

    def channels(self) -> dict[bytes, ChannelRow]:
        """The channels and proposals by id."""
        import msgspec

        from tallystick.node.store.keyspace import ChannelRow

        decode = msgspec.msgpack.Decoder(ChannelRow).decode
        return {key: decode(value) for key, value in self.rows("channels")}


@contextmanager
def _opened(ctx: click.Context) -> Iterator[_Store]:
    import lmdb

    from tallystick.node.cli.context import place_of_home

    path = (_option(ctx, "home_") or place_of_home()[0]) / "store"
    if not (path / "data.mdb").exists() or not (path / "lock.mdb").exists():
        raise FileNotFoundError(path)
    with lmdb.open(str(path), readonly=True, create=False, max_dbs=64, max_readers=512) as found:
        yield _Store(found)


def _option(ctx: click.Context, name: str) -> Any:
    """An option's value, wherever on the line it was given."""
    at: click.Context | None = ctx
    while at is not None:
        value = at.params.get(name)
        if value:
            return Path(value) if name == "home_" else value
        at = at.parent
    return None


def _channels(store: _Store, ctx: click.Context) -> Items:
    for key, row in store.channels().items():
        yield key.hex()[:8], f"{row.state}, with {row.peer}"
    for row in store.channels().values():
        yield row.peer, "the peer"


def _peers(store: _Store, ctx: click.Context) -> Items:
    for key, _ in store.rows("peers"):
        yield key.decode(), "a peer"


def _periods(store: _Store, ctx: click.Context) -> Items:
    """The present period and those before it, newest first, in the calendar of the channel."""
    from tallystick.protocol.periods import Calendar
    from tallystick.protocol.records import Terms, decode_record

    wanted = _option(ctx, "channel")
    labels: dict[str, str] = {}
    for key, row in store.channels().items():
        if wanted and wanted != row.peer and not key.hex().startswith(wanted):
            continue
        terms = decode_record(row.terms)
        assert isinstance(terms, Terms)
        calendar = Calendar(terms.calendar, terms.time_zone)
        period = calendar.period_of(time.time_ns() // 1000)
        for _ in range(PERIODS_SHOWN):
            labels.setdefault(period.label, f"with {row.peer}")
            period = calendar.period_of(period.start_us - 1)
    return labels.items()


_BY_NAME: dict[str, Complete] = {
    "channel": _channels,
    "upstream": _channels,
    "downstream": _channels,
    "selector": _channels,
    "period": _periods,
    "peer": _peers,
    "to": _peers,
    "replace": _peers,
}
