"""Tickets and sessions by a clock that tests turn: each ticket once, sessions for a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.node.api.keys import OWNER, ApiKeys
from tallystick.node.config import ConsoleSettings
from tallystick.node.console.sessions import (
    CODE_SECONDS,
    SESSIONS_EACH,
    TICKET_SECONDS,
    TICKETS_MAX,
    TRIES,
    Sessions,
    Tickets,
)
from tallystick.node.home import create_home


class Clock:
    """Seconds, as a test sets them."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path) -> ApiKeys:
    return ApiKeys(create_home(tmp_path / "home", "acme.example", bytes(32)))


@pytest.fixture
def sessions(clock: Clock, keys: ApiKeys) -> Sessions:
    return Sessions(keys, ConsoleSettings(session_minutes=60, idle_minutes=10), clock)


def test_a_ticket_is_taken_once(clock: Clock) -> None:
    tickets = Tickets(clock)
    ticket = tickets.mint()
    assert not tickets.redeem(ticket + "x")
    assert tickets.redeem(ticket)
    assert not tickets.redeem(ticket)


def test_a_ticket_and_a_code_are_of_now(clock: Clock) -> None:
    tickets = Tickets(clock)
    ticket, code = tickets.mint(), tickets.mint_code()
    clock.now += TICKET_SECONDS
    assert not tickets.redeem(ticket)
    clock.now += CODE_SECONDS
    assert not tickets.redeem_code(code)


def test_a_ticket_is_no_code_and_a_code_no_ticket(clock: Clock) -> None:
    tickets = Tickets(clock)
    ticket, code = tickets.mint(), tickets.mint_code()
    assert not tickets.redeem(code)
    assert not tickets.redeem(code.replace("-", ""))
    assert not tickets.redeem_code(ticket)


def test_a_code_is_taken_as_people_type_it(clock: Clock) -> None:
    tickets = Tickets(clock)
    for typed in (str.lower, lambda code: code.replace("-", " "), lambda code: f" {code}\n"):
        assert tickets.redeem_code(typed(tickets.mint_code()))


def test_guessing_ends_all_codes_until_the_next(clock: Clock) -> None:
    tickets = Tickets(clock)
    code = tickets.mint_code()
    for n in range(TRIES - 1):
        assert not tickets.redeem_code(f"2222-222{n + 2}")
    assert tickets.redeem_code(code)
    code = tickets.mint_code()
    for n in range(TRIES):
        assert not tickets.redeem_code(f"2222-222{n + 2}")
    assert not tickets.redeem_code(code)
    assert tickets.redeem_code(tickets.mint_code())


def test_few_tickets_are_kept(clock: Clock) -> None:
    tickets = Tickets(clock)
    first = tickets.mint()
    for _ in range(TICKETS_MAX):
        last = tickets.mint()
    assert not tickets.redeem(first)
    assert tickets.redeem(last)


def test_a_session_ends_when_it_is_idle_or_old(clock: Clock, sessions: Sessions) -> None:
    token = sessions.begin(OWNER)
    clock.now += 599
    assert sessions.find(token) is not None
    clock.now += 599
    assert sessions.find(token, used=False) is not None
    clock.now += 1
    assert sessions.find(token) is None
    token = sessions.begin(OWNER)
    for _ in range(7):
        clock.now += 500
        assert sessions.find(token) is not None
    clock.now += 100
    assert sessions.find(token) is None


def test_a_session_ends_with_its_key(clock: Clock, keys: ApiKeys, sessions: Sessions) -> None:
    key = keys.find(keys.add("one", ["read"], "now"))
    assert key is not None
    token = sessions.begin(key)
    found = sessions.find(token)
    assert found is not None
    assert found.caller == key
    keys.remove("one")
    keys.add("one", ["admin"], "now")  # another key of the same name is another key
    assert sessions.find(token) is None


def test_no_session_of_a_key_lives_while_keys_cannot_be_read(
    keys: ApiKeys, sessions: Sessions, tmp_path: Path
) -> None:
    key = keys.find(keys.add("one", ["read"], "now"))
    assert key is not None
    token, owners = sessions.begin(key), sessions.begin(OWNER)
    (file,) = tmp_path.rglob("api-keys.json")
    file.write_text("{ damaged")
    assert sessions.find(token) is None
    assert sessions.find(owners) is not None


def test_sessions_are_few_and_tokens_their_own(keys: ApiKeys, sessions: Sessions) -> None:
    key = keys.find(keys.add("one", ["read"], "now"))
    assert key is not None
    owners = sessions.begin(OWNER)
    tokens = [sessions.begin(key) for _ in range(SESSIONS_EACH + 1)]
    assert len(set(tokens)) == len(tokens)
    assert sessions.find(tokens[0]) is None
    assert sessions.find(tokens[1]) is not None
    assert sessions.find(owners) is not None  # others' sessions are not ended by it
    sessions.end(tokens[1])
    assert sessions.find(tokens[1]) is None
    assert sessions.find("") is None
    assert sessions.find("\udcff") is None


def test_a_forms_token_is_of_its_session(sessions: Sessions) -> None:
    one, other = (sessions.find(sessions.begin(OWNER)) for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.has_form_token(one.form_token)
    assert not one.has_form_token(other.form_token)
    assert not one.has_form_token("")
    assert not one.has_form_token("\udcff")
