"""The lines that a node writes about itself: an event, and keys with values.

Modules say `logging.getLogger(name).info("event", extra={"peer": …})`; here structlog makes a line
of it, for people on a terminal and JSON for machines. Lines of libraries go the same way. What came
from outside is escaped, so nobody can forge a line or move a terminal's cursor, and what is secret
is left out wherever it stands. Only `tally run` and `tally watch` load this module: structlog is
slow to import.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import Processor

from tallystick.node.config import Log

EVENT_WIDTH = 44
SECRET = "(secret)"
VALUE_CHARACTERS_MAX = 4_000  # of one value: a peer may have a lot to say
_FORMS = re.compile(  # pairing codes, webhook secrets, bearer keys
    r"(tally1-|tally_[0-9a-f]{12}_|whsec_|Bearer\s+)[A-Za-z0-9+/=_.~-]{8,}"
)
_NAMES = re.compile(r"(^|_)(seed|secret|passphrase|password|token|authorization|cookie|code)$")
_WORD = re.compile(r"[^\s\"'=\\]+")

Event = MutableMapping[str, Any]


class Lines:
    """What was set up, until `close` undoes it. `counts` has how many lines of each level were
    written.
    """

    def __init__(
        self,
        log: Log,
        secrets: Iterable[str] = (),
        stream: TextIO | None = None,
    ) -> None:
        stream = stream or sys.stderr
        self.counts: Counter[str] = Counter()
        terminal = stream.isatty()
        form = log.format if log.format != "auto" else "text" if terminal else "json"
        self._handler = logging.StreamHandler(stream)
        self._handler.setFormatter(formatter(form, secrets, colours=terminal))
        self._handler.addFilter(self._count)
        root = logging.getLogger()
        self._before = root.level
        root.setLevel(log.level.upper())
        root.addHandler(self._handler)
        logging.captureWarnings(True)

    def _count(self, record: logging.LogRecord) -> bool:
        self.counts[record.levelname.lower()] += 1
        return True

    def close(self) -> None:
        """Write no more."""
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(self._handler)
        logging.getLogger().setLevel(self._before)


def formatter(form: str, secrets: Iterable[str], *, colours: bool = False) -> logging.Formatter:
    """What makes a line of a record: `text` or `json`."""
    text = form == "text"
    stamp = "%Y-%m-%d %H:%M:%S" if text else "iso"
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        ExtraAdder(),
        _drop_repeated,
        structlog.processors.TimeStamper(fmt=stamp, utc=not text),
    ]
    # A traceback as Python prints it: others show the variables, and so their secrets.
    final: list[Processor] = [
        ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        Cleaner(secrets),
        _People(colours) if text else structlog.processors.JSONRenderer(ensure_ascii=False),
    ]
    return ProcessorFormatter(foreign_pre_chain=shared, processors=final)


def _drop_repeated(logger: object, method: str, event: Event) -> Event:
    """Leave out what other formatters add to a record: the event once more, and a time."""
    event.pop("message", None)
    event.pop("asctime", None)
    return event


def escaped(text: str) -> str:
    """A text in one line in which nothing takes effect: no line ends, no control sequences."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


class Cleaner:
    """A processor that escapes what is foreign and leaves out what is secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret for secret in secrets if secret]

    def __call__(self, logger: object, method: str, event: Event) -> Event:
        for key, value in list(event.items()):
            if _NAMES.search(key):
                event[key] = SECRET
            elif not isinstance(value, int | float | None):
                # A traceback's lines stay lines; each of them is marked as part of it when shown.
                lines = str(value).split("\n") if key == "exception" else [str(value)]
                event[key] = "\n".join(self._clean(line) for line in lines)
        return event

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, SECRET)
        text = _FORMS.sub(lambda match: match[1] + SECRET, text)
        if len(text) > VALUE_CHARACTERS_MAX:
            text = f"{text[:VALUE_CHARACTERS_MAX]}… ({len(text)} characters)"
        return escaped(text)


_COLOURS = {"warning": "33", "error": "31", "critical": "31"}


class _People:
    """A renderer: time, level, event, then `key=value`."""

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def __call__(self, logger: object, method: str, event: Event) -> str:
        stamp, level = event.pop("timestamp"), str(event.pop("level"))
        said, exception = event.pop("event"), event.pop("exception", None)
        event.pop("logger", None)
        shown = f"{level:<7}"
        if self._colours and level in _COLOURS:
            shown = f"\x1b[{_COLOURS[level]}m{shown}\x1b[0m"
        values = " ".join(f"{key}={_value(value)}" for key, value in event.items())
        line = f"{stamp} {shown} {said:<{EVENT_WIDTH}} {values}".rstrip()
        if exception:
            line += "".join(f"\n    | {row}" for row in str(exception).splitlines())
        return line


def _value(value: object) -> str:
    text = str(value)
    if _WORD.fullmatch(text):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'
