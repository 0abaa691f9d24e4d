"""Every error of the project, one family tree.

    TallyError
    ├── InputError          what a person, a file or a flag handed in is wrong           exit 2
    │   ├── QuantityError   a number that is not an exact decimal in the meter's scale
    │   ├── PeriodError     a period that the terms' calendar does not have
    │   ├── TermsError      a terms file with a mistake: names the line and the key
    │   ├── MappingError    a mapping file with a mistake, or a column that is not there
    │   └── UnknownName     a channel, a peer, a delta or a period that is not there
    ├── FormatError         bytes are not what this protocol writes                       exit 1
    ├── InvalidRecord       a record that the terms or its log do not allow               exit 1
    ├── ConflictError       the same meter and id with other content                      exit 1
    ├── ProofError          a signature, a proof or a total does not hold                 exit 1
    ├── DiffersError        the peer computed something else                              exit 1
    ├── PeerBreach          the peer broke the protocol                                   exit 1
    ├── SessionStopped      a reconciliation session came to no result                    exit 3
    └── WorldError          the world failed us: a socket, a disk, a process              exit 3
        └── (its children are in `tallystick.node.errors`)

Each says what was expected, what came, and in `advice` what to do. The message is a sentence for
the person at the terminal, so nothing above the command line needs to reword it.
"""

from __future__ import annotations

from typing import ClassVar


class TallyError(Exception):
    """Base of all errors that Tallystick raises on purpose."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}. {self.advice}" if self.advice else self.message


class InputError(TallyError):
    """Something handed in by a person, a file or a flag is wrong."""


class QuantityError(InputError):
    """A quantity is not an exact decimal number in the meter's scale and range."""


class PeriodError(InputError):
    """A period's label does not name a period of the terms' calendar."""


class TermsError(InputError):
    """A terms file has a mistake; the message names the line and the key."""


class MappingError(InputError):
    """A mapping file has a mistake, or names a column that the file does not have."""


class UnknownName(InputError):
    """A channel, a peer, a delta, a line, a dispute or a closed period that is not there."""


class FormatError(TallyError):
    """Bytes are not in the one form that this protocol writes."""

    exit_code = 1


class InvalidRecord(TallyError):
    """A record is not allowed by the terms or by the log before it."""

    exit_code = 1


class ConflictError(TallyError):
    """The same meter and id were recorded before with other content."""

    exit_code = 1


class ProofError(TallyError):
    """A signature, a proof or a total does not hold."""

    exit_code = 1


class DiffersError(TallyError):
    """The peer computed another result from the same records."""

    exit_code = 1


class PeerBreach(TallyError):
    """The peer broke the protocol; `code` is the short name that it is told."""

    exit_code = 1

    def __init__(self, code: str, message: str, advice: str = "") -> None:
        super().__init__(message, advice)
        self.code = code


class SessionStopped(TallyError):
    """A reconciliation session came to no result; nothing more is opened in it.

    `code` is the short name that the peer is told.
    """

    exit_code = 3

    def __init__(self, message: str, advice: str = "", code: str = "stopped") -> None:
        super().__init__(message, advice)
        self.code = code


def lone_error(error: BaseException) -> BaseException:
    """The error inside the groups that concurrent tasks wrap it in; the first, if several."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class WorldError(TallyError):
    """The world failed: a socket, a disk or another process."""

    exit_code = 3
