"""Streams of events go on where they broke off, whatever the way to the node does meanwhile."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import emitting
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.client import AsyncClient, Client, Event, Gap, NotAllowed, Retry, Unreachable
from tallystick.client.sse import EventLines

RETRY = Retry(attempts=2, first=0.01, longest=0.05)
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def _document(cursor: int) -> dict[str, Any]:
    return {
        "cursor": cursor, "id": f"e{cursor}", "kind": "delta.cosigned", "at": "2026-01-01Z",
        "channel": None, "peer": "beta.example", "said": "it is", "data": {"from": 1},
    }  # fmt: skip


def _frame(cursor: int) -> str:
    return f"id: {cursor}\nevent: delta.cosigned\ndata: {json.dumps(_document(cursor))}\n\n"


def _event(cursor: int) -> Event:
    return Event(**_document(cursor))


class _Server:
    """Answers each connection with the next text, whatever was asked, and hangs up."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[str] = []

    def run(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                self.asked.append(request.decode().split()[1])
                connection.sendall(answer.encode())
        self._listener.close()


@contextmanager
def _served(answers: Sequence[str]) -> Iterator[_Server]:
    server = _Server(answers)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    thread.join(30)
    assert not thread.is_alive()


@given(st.integers(1, 40))
def test_bytes_become_events_and_comments_none(size: int) -> None:
    lines = EventLines(0, RETRY)
    text = f"retry: 2000\n\n: here\n\nid: 5\n: \n\n{_frame(6)}id: 7\nevent: x\nda"
    text = text.replace("it is", "it is \u00e9").replace("\n", "\r\n", 5)
    data = text.encode()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    found = [event for piece in pieces for event in lines.feed(piece)]
    assert [(event.cursor, event.said) for event in found] == [(6, "it is \u00e9")]
    assert lines.cursor == 6
    # It broke off in the middle of an event, which comes again whole.
    assert lines.broken_off(None) <= RETRY.first
    assert list(lines.feed(_frame(7).encode())) == [_event(7)]
    with pytest.raises(Unreachable, match="not a node's"):
        list(lines.feed(b"data: <html>\n\n"))


BROKEN = [
    HEAD + "retry: 2000\n\n" + _frame(1) + _frame(2) + _frame(3)[:-30],
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    HEAD + "id: 9\n: \n\n",
    "",
    HEAD + _frame(10) + 'event: feed.gap\ndata: {"said": "gone", "next": ""}\n\n',
]


def test_a_stream_that_breaks_off_goes_on_behind_the_last_event() -> None:
    with _served(BROKEN) as server, Client(server.url, key="x", retry=RETRY) as client:
        found = []
        with pytest.raises(Gap, match="follows event 10"):
            for event in client.events(0, channel="beta.example", kinds=["delta.*"]):
                found.append(event)
    assert found == [_event(1), _event(2), _event(10)]
    rest = "channel=beta.example&kinds=delta.%2A"
    expected = [f"/v1/events?after={after}&{rest}" for after in (0, 2, 2, 9, 9)]
    assert [asked.replace("*", "%2A") for asked in server.asked] == expected


# httpx leaves the generators inside its streams to the garbage collector; trio says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_other_client_goes_on_as_well() -> None:
    async def work() -> None:
        found = []
        page = '{"events": [], "cursor": 0, "last": 0}'
        first = f"HTTP/1.1 200 OK\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n{page}"
        with _served([first, *BROKEN]) as server:
            async with AsyncClient(server.url, key="x", retry=RETRY) as client:
                with pytest.raises(Gap):
                    async with aclosing(client.events()) as events:
                        async for event in events:
                            found.append(event.cursor)
            assert found == [1, 2, 10]
            paths = ["/v1/events?limit=1", "/v1/events?after=0", "/v1/events?after=2"]
            assert server.asked[:3] == paths

    emitting.on_both(work)


def test_a_cursor_that_is_too_old_is_a_gap() -> None:
    body = '{"type": "urn:tallystick:CursorError", "status": 410, "detail": "too old"}'
    refused = f"HTTP/1.1 410 Gone\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    with _served([refused]) as server:
        client = Client(server.url, key="x", retry=RETRY)
        with client, pytest.raises(Gap, match="too old"):
            next(client.events(after=3))


def test_a_key_that_may_not_read_is_said_and_not_asked_again() -> None:
    body = '{"status": 403, "detail": "no"}'
    refused = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    with _served([refused]) as server:
        client = Client(server.url, key="x", retry=RETRY)
        with client, pytest.raises(NotAllowed, match="no"):
            next(client.events(after=3))
