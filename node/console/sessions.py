"""Who is logged in to the console: tickets that open a session once, and the sessions, in memory.

A restart logs everybody out. Tokens and codes are kept as hashes only, and a session ends when it
is idle, when it is old, on logout, and when the key that opened it is removed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from tallystick.node.api.keys import ApiKey, ApiKeys
from tallystick.node.config import ConsoleSettings

TICKET_SECONDS = 60  # for a browser that was started with it
CODE_SECONDS = 300  # for fingers
TICKETS_MAX = 32
SESSIONS_EACH = 16  # of one caller: who logs in too often ends its own sessions only
TRIES = 5  # wrong codes, before all codes are void
_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # none that looks like another
_CODE_LENGTH = 8


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Tickets:
    """Tickets by which whoever can read the home becomes a session: each once, and soon."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tickets: dict[bytes, float] = {}
        self._codes: dict[bytes, float] = {}
        self._wrong = 0

    def mint(self) -> str:
        """A ticket for a form."""
        ticket = secrets.token_urlsafe(32)
        self._add(self._tickets, ticket, TICKET_SECONDS)
        return ticket

    def mint_code(self) -> str:
        """A short one, to be typed."""
        code = "".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH))
        self._add(self._codes, code, CODE_SECONDS)
        self._wrong = 0
        return f"{code[:4]}-{code[4:]}"

    def redeem(self, ticket: str) -> bool:
        """Whether this is a ticket; it is none any more then."""
        return self._take(self._tickets, ticket)

    def redeem_code(self, typed: str) -> bool:
        """Whether this is a code, however it was spaced; after some wrong ones none is."""
        code = "".join(typed.upper().split()).replace("-", "")
        if self._take(self._codes, code):
            return True
        self._wrong += 1
        if self._wrong >= TRIES:
            self._codes.clear()
        return False

    def _add(self, kept: dict[bytes, float], text: str, seconds: float) -> None:
        now = self._clock()
        for key in [key for key, until in kept.items() if until <= now]:
            del kept[key]
        while len(kept) >= TICKETS_MAX:
            del kept[next(iter(kept))]
        kept[_hash(text)] = now + seconds

    def _take(self, kept: dict[bytes, float], text: str) -> bool:
        until = kept.pop(_hash(text), None)
        return until is not None and self._clock() < until


@dataclass(slots=True)
class Session:
    """Somebody who is logged in. `form_token` is what the forms of its pages carry."""

    caller: ApiKey
    form_token: str
    ends_at: float
    idle_until: float

    def has_form_token(self, shown: str) -> bool:
        """Whether a form shows this session's token."""
        return hmac.compare_digest(_hash(shown), _hash(self.form_token))


class Sessions:
    """The sessions of a running node, by their cookie's hash."""

    def __init__(
        self, keys: ApiKeys, settings: ConsoleSettings, clock: Callable[[], float]
    ) -> None:
        self._keys = keys
        self._age = settings.session_minutes * 60
        self._idle = settings.idle_minutes * 60
        self._clock = clock
        self._open: dict[bytes, Session] = {}

    def begin(self, caller: ApiKey) -> str:
        """A new session; its token, which is never one that a browser brought."""
        now = self._clock()
        self._open = {key: one for key, one in self._open.items() if self._lives(one)}
        own = [key for key, one in self._open.items() if one.caller == caller]
        if len(own) >= SESSIONS_EACH:
            del self._open[own[0]]
        token = secrets.token_urlsafe(32)
        session = Session(caller, secrets.token_urlsafe(32), now + self._age, now + self._idle)
        self._open[_hash(token)] = session
        return token

    def find(self, token: str, *, used: bool = True) -> Session | None:
        """The session of a token; `used` keeps it from being idle."""
        session = self._open.get(_hash(token))
        if session is None or not self._lives(session):
            self.end(token)
            return None
        if used:
            session.idle_until = self._clock() + self._idle
        return session

    def end(self, token: str) -> None:
        """Log out."""
        self._open.pop(_hash(token), None)

    def _lives(self, session: Session) -> bool:
        until = min(session.ends_at, session.idle_until)
        return self._keys.knows(session.caller) and self._clock() < until
