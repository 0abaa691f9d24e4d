"""The mapping of a passthrough: a TOML file that says which subjects are sold as which.

    meters = { "output-tokens" = "tokens" }   # upstream = downstream; left out: the same names
    own_use = ["lab"]                         # upstream subjects that are not sold
    others = "unmapped"                       # what is not named; or "same-names"

    [[resale]]
    upstream = "project-7"                    # or a list; "*" is what nothing else names
    downstream = { channel = "beta.example", subject = "assistant" }      # or a list of these

A channel is named by its peer or by the beginning of its id. Without `subject`, every subject of it
that nothing else names is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tallystick.node.importing.mapping import mapping_values
from tallystick.protocol.errors import InputError, MappingError
from tallystick.protocol.passthrough import ANY, Resale, ResaleMap
from tallystick.protocol.toml import known_keys

_OTHERS = ("unmapped", "same-names")


@dataclass(frozen=True, slots=True)
class PassthroughMap:
    """A whole file; `meters` is None if it names none."""

    resales: ResaleMap
    meters: dict[str, str] | None


# Which channels, by their ids, a peer's name or the beginning of an id stands for.
Channels = Callable[[str], Sequence[str]]

SAME_NAMES = PassthroughMap(ResaleMap(), None)


def load_passthrough_map(path: Path, channels: Channels) -> PassthroughMap:
    """The mapping of a file; `MappingError` names the key that is wrong."""
    return _Reader(path, channels).all(mapping_values(path))


class _Reader:
    def __init__(self, path: Path, channels: Channels) -> None:
        self._path = path
        self._channels = channels

    def _fail(self, said: str, advice: str = "") -> NoReturn:
        raise MappingError(f"{self._path}: {said}", advice)

    def _known(self, where: str, table: dict[str, Any], known: Sequence[str]) -> None:
        for name in table:
            if name not in known:
                self._fail(f"there is no key {where}{name}", known_keys(name, known))

    def _texts(self, where: str, value: object) -> tuple[str, ...]:
        """A text, or a list of texts."""
        found = value if isinstance(value, list) else [value]
        if not found or not all(isinstance(item, str) and item for item in found):
            self._fail(f"{where} is neither text in quotes nor a list of such")
        return tuple(found)

    def all(self, values: dict[str, Any]) -> PassthroughMap:
        """All of it."""
        self._known("", values, ("meters", "own_use", "others", "resale"))
        others = values.get("others", _OTHERS[0])
        if others not in _OTHERS:
            self._fail(f"others {others!r} is not one of {', '.join(_OTHERS)}")
        resales = values.get("resale", [])
        if not isinstance(resales, list):
            self._fail("resale is no list of tables", "Begin each with [[resale]]")
        own_use = self._texts("own_use", values["own_use"]) if values.get("own_use") else ()
        made = tuple(self._resale(n, value) for n, value in enumerate(resales, 1))
        self._check_once("own_use and upstream", [*own_use, *(s for r in made for s in r.upstream)])
        self._check_once("downstream", [f"{c}/{s}" for r in made for c, s in r.downstream])
        return PassthroughMap(
            ResaleMap(made, own_use, others == _OTHERS[1]), self._meters(values.get("meters"))
        )

    def _meters(self, value: object) -> dict[str, str] | None:
        if value is None:
            return None
        if not isinstance(value, dict) or not value:
            self._fail("meters is no table", 'As in meters = { "output-tokens" = "tokens" }')
        if not all(isinstance(name, str) for name in value.values()):
            self._fail("meters: a downstream meter is not text in quotes")
        self._check_once("meters", list(value.values()))
        return dict(value)

    def _check_once(self, where: str, names: Sequence[str]) -> None:
        seen: set[str] = set()
        for name in names:
            if name in seen:
                self._fail(f"{where}: {name!r} is named twice", "Each belongs to one resale")
            seen.add(name)

    def _resale(self, number: int, value: object) -> Resale:
        where = f"resale {number}"
        if not isinstance(value, dict):
            self._fail(f"{where} is not a table")
        self._known(f"{where}: ", value, ("upstream", "downstream"))
        for key in ("upstream", "downstream"):
            if key not in value:
                self._fail(f"{where}: {key} is missing")
        sold = value["downstream"]
        pairs: list[tuple[str, str]] = []
        for table in sold if isinstance(sold, list) else [sold]:
            pairs += self._sold(where, table)
        if not pairs:
            self._fail(f"{where}: downstream is empty", "List own use under own_use")
        return Resale(self._texts(f"{where}: upstream", value["upstream"]), tuple(pairs))

    def _sold(self, where: str, table: object) -> list[tuple[str, str]]:
        if not isinstance(table, dict) or not isinstance(table.get("channel"), str):
            self._fail(
                f"{where}: downstream names no channel",
                'As in downstream = { channel = "beta.example", subject = "assistant" }',
            )
        self._known(f"{where}: downstream.", table, ("channel", "subject"))
        subject = table.get("subject", ANY)
        if not isinstance(subject, str) or not subject:
            self._fail(f"{where}: downstream.subject is not text in quotes")
        try:
            return [(channel, subject) for channel in self._channels(table["channel"])]
        except InputError as error:
            raise MappingError(f"{self._path}: {where}: {error.message}", error.advice) from None
