"""What the console refuses: forms of other sites, old and foreign tickets, sessions that ended, and
addresses that lead elsewhere. Spoken in plain HTTP, as an attacker would.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nodes
import pytest
from consoles import tally_json
from nodes import Party

IDLE_SECONDS = 3

POST_PATHS = [
    "/console/peers/invite",
    "/console/peers/join",
    "/console/peers/beta.example/propose",
    "/console/proposals/{channel}/accept",
    "/console/channels/{channel}/periods/2026-10-03T10/close",
    "/console/channels/{channel}/periods/2026-10-03T10/compare",
    "/console/channels/{channel}/dispute",
    "/console/channels/{channel}/sign",
    "/console/disputes/00/say",
    "/console/logout",
]


@dataclass(frozen=True, slots=True)
class Door:
    """A node's console, and its owner."""

    party: Party
    base: str
    channel: str

    @property
    def origin(self) -> dict[str, str]:
        return {"Origin": self.base}

    def ticket(self) -> str:
        """A fresh ticket, as `tally console` gets it."""
        import trio

        from tallystick.node.home import open_home
        from tallystick.node.rpc import RpcClient

        async def ask() -> Any:
            async with RpcClient.connect(open_home(self.party.home)) as client:
                return await client.call("console", typed=False)

        ticket: str = trio.run(ask)["ticket"]
        return ticket

    def code(self) -> str:
        """A fresh code."""
        code: str = tally_json(self.party, "console", "--print")["code"]
        return code

    def login(self, client: httpx.Client, **form: str) -> httpx.Response:
        """Send the form of the login page."""
        return client.post("/console/login", data=form, headers=self.origin)

    def client(self) -> httpx.Client:
        """Nobody yet."""
        return httpx.Client(base_url=self.base, timeout=60)

    @contextmanager
    def owner(self) -> Iterator[httpx.Client]:
        """Somebody who is logged in."""
        with self.client() as client:
            assert self.login(client, code=self.code()).status_code == 303
            yield client


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Acme's console; a session there ends after a short while without use."""
    with nodes.channel(tmp_path_factory.mktemp("door")) as (acme, _):
        acme.stop()
        acme.configure(f"[console]\nidle_minutes = {IDLE_SECONDS / 60}\n")
        acme.start()
        status = tally_json(acme, "status")
        yield Door(acme, status["http"], status["channels"][0]["channel"])


def _token(page: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def _cookie(answer: httpx.Response) -> str:
    return answer.headers["set-cookie"]


def test_the_cookie_is_for_our_pages_alone(door: Door) -> None:
    with door.client() as client:
        said = _cookie(door.login(client, code=door.code()))
        for word in ("HttpOnly", "SameSite=strict", "Path=/console", "Max-Age=28800"):
            assert word in said
        assert "Domain" not in said


def test_every_answer_has_the_headers(door: Door) -> None:
    with door.owner() as client:
        answers = [
            client.get(path)
            for path in ("/console/", "/console/login", "/console/none", "/console/disputes/ff")
        ]
        answers.append(client.post("/console/peers/invite"))
        answers.append(httpx.get(f"{door.base}/console/peers"))
        for answer in answers:
            headers = answer.headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cache-control"] == "no-store"
            assert headers["cross-origin-opener-policy"] == "same-origin"
        page = client.get("/console/").text
        for address in re.findall(r"/console/static/[a-z]+\.[0-9a-f]{12}\.[a-z]+", page):
            found = client.get(address)
            assert found.status_code == 200
            assert found.headers["x-content-type-options"] == "nosniff"
            assert "immutable" in found.headers["cache-control"]
        assert not re.search(r"<style|style=|<script(?! src=)| on[a-z]+=", page)
        assert client.get("/console/static/..%2f..%2fapp.py").status_code == 404


@pytest.mark.parametrize("path", POST_PATHS)
def test_a_form_needs_a_session(door: Door, path: str) -> None:
    with door.client() as client:
        answer = client.post(path.format(channel=door.channel), data={}, headers=door.origin)
        assert answer.status_code == 401
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", POST_PATHS)
def test_a_form_needs_our_origin_and_our_token(door: Door, path: str) -> None:
    path = path.format(channel=door.channel)
    with door.owner() as client:
        token = _token(client.get("/console/peers").text)
        foreign: list[dict[str, str]] = [
            {},
            {"Origin": "null"},
            {"Origin": "https://evil.example"},
            {"Origin": door.base + ".evil.example"},
            {"Origin": door.base.rpartition(":")[0] + ":1"},
            {"Origin": door.base, "Sec-Fetch-Site": "cross-site"},
            {"Origin": door.base, "Sec-Fetch-Site": "same-site"},
            {"Origin": door.base, "Sec-Fetch-Site": "none"},
        ]
        for headers in foreign:
            answer = client.post(path, data={"token": token}, headers=headers)
            assert answer.status_code == 403, headers
            assert "was not sent from a page of this console" in answer.text
        with door.owner() as other:
            theirs = _token(other.get("/console/peers").text)
        for shown in ("", "x", token[:-1], theirs):
            answer = client.post(path, data={"token": shown}, headers=door.origin)
            assert answer.status_code == 403, shown
            assert "not of your session" in answer.text
        assert client.get("/console/").status_code == 200  # still logged in: nothing was done


def test_with_both_it_is_done(door: Door) -> None:
    with door.owner() as client:
        token = _token(client.get("/console/peers").text)
        headers = {"Origin": door.base, "Sec-Fetch-Site": "same-origin"}
        form = {"token": token, "lifetime": "1h"}
        answer = client.post("/console/peers/invite", data=form, headers=headers)
        assert answer.status_code == 200
        assert "A pairing code" in answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_do_nothing(door: Door, method: str) -> None:
    with door.owner() as client:
        answer = client.request(method, "/console/peers/invite", headers=door.origin)
        assert answer.status_code in (404, 405)
        assert "<h1>" in answer.text


def test_a_ticket_works_once(door: Door) -> None:
    ticket = door.ticket()
    with door.client() as first, door.client() as second:
        page = first.post("/console/login", data={"ticket": ticket}, headers={"Origin": "null"})
        assert page.status_code == 200
        assert 'http-equiv="refresh" content="0; url=/console/"' in page.text
        assert first.get("/console/").status_code == 200
        again = second.post("/console/login", data={"ticket": ticket}, headers={"Origin": "null"})
        assert again.status_code == 403
        assert "set-cookie" not in again.headers
        assert second.get("/console/").status_code == 303


def test_a_code_works_once_and_not_after_wrong_ones(door: Door) -> None:
    code = door.code()
    with door.client() as client:
        assert door.login(client, code=code).status_code == 303
        assert door.login(client, code=code).status_code == 403
        code = door.code()
        for _ in range(5):
            assert door.login(client, code="2222-2222").status_code == 403
        assert door.login(client, code=code).status_code == 403


def test_another_site_cannot_log_a_browser_in(door: Door) -> None:
    """Neither by its code nor by its key; a ticket, which nobody else has, comes from a file."""
    key = tally_json(door.party, "keys", "add", "forced", "--scope", "read")["key"]
    with door.client() as client:
        for form in ({"code": door.code()}, {"key": key}):
            for origin in ("null", "https://evil.example", ""):
                headers = {"Origin": origin} if origin else {}
                answer = client.post("/console/login", data=form, headers=headers)
                assert answer.status_code == 403
                assert "set-cookie" not in answer.headers


def test_a_session_that_a_browser_brought_is_not_taken_over(door: Door) -> None:
    """Session fixation: the login makes a new one, and ends what was there."""
    with door.owner() as client:
        before = dict(client.cookies)
        ((name, value),) = before.items()
        door.login(client, code=door.code())
        assert client.cookies[name] != value
        old = httpx.get(f"{door.base}/console/", cookies=before)
        assert old.status_code == 303
    with door.client() as planted:
        planted.cookies.set(name, "a" * 43, path="/console")
        door.login(planted, code=door.code())
        assert httpx.get(f"{door.base}/console/", cookies={name: "a" * 43}).status_code == 303


def test_a_session_ends_by_logout_by_idleness_and_with_its_key(door: Door) -> None:
    with door.owner() as client:
        cookies = dict(client.cookies)
        token = _token(client.get("/console/").text)
        answer = client.post("/console/logout", data={"token": token}, headers=door.origin)
        assert answer.headers["location"] == "/console/login"
        assert httpx.get(f"{door.base}/console/", cookies=cookies).status_code == 303
    with door.owner() as client:
        assert client.get("/console/").status_code == 200
        deadline = time.monotonic() + IDLE_SECONDS * 3
        while client.get("/console/?seen=x").status_code == 200:  # a page left open is no use
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert client.get("/console/").status_code == 303
        assert client.get("/console/?seen=x").status_code == 401
    key = tally_json(door.party, "keys", "add", "short", "--scope", "admin")["key"]
    with door.client() as client:
        assert door.login(client, key=key).status_code == 303
        assert client.get("/console/").status_code == 200
        tally_json(door.party, "keys", "remove", "short")
        assert client.get("/console/").status_code == 303


def test_a_key_without_the_scope_read_opens_nothing(door: Door) -> None:
    key = tally_json(door.party, "keys", "add", "sender", "--scope", "emit")["key"]
    with door.client() as client:
        answer = door.login(client, key=key)
        assert answer.status_code == 403
        assert "has not the scope read" in answer.text
        assert key not in answer.text
        # The interface's own header opens no page either: pages are for sessions.
        headers = {"Authorization": f"Bearer {key}"}
        assert client.get("/console/", headers=headers).status_code == 303


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example/console/",
        "/console/\\evil.example",
        "/console/../docs",
        "/console/%0d%0aSet-Cookie:x",
        "javascript:alert(1)",
        "/console/logout",
        "/docs",
    ],
)
def test_the_login_leads_nowhere_else(door: Door, wanted: str) -> None:
    with door.client() as client:
        page = client.get("/console/login", params={"next": wanted})
        inside = re.findall(r'name="next" value="([^"]*)"', page.text)
        assert all(value.startswith("/console/") and ".." not in value for value in inside)
        answer = door.login(client, code=door.code(), next=wanted)
        assert answer.headers["location"].startswith("/console/")
        assert "\r" not in answer.headers["location"]
        assert ".." not in answer.headers["location"]


def test_a_page_elsewhere_whose_name_leads_here_is_refused(door: Door) -> None:
    with door.client() as client:
        assert client.get("/console/login", headers={"Host": "evil.example"}).status_code == 421


def test_what_is_no_form_is_refused_in_words(door: Door) -> None:
    with door.owner() as client:
        path = "/console/peers/invite"
        for content, headers, status in (
            (b"{}", {"Content-Type": "application/json"}, 415),
            (b"x" * 300_000, {"Content-Type": "application/x-www-form-urlencoded"}, 413),
            (b"garbage", {"Content-Type": "multipart/form-data; boundary=x"}, 400),
            (b"garbage", {"Content-Type": "multipart/form-data"}, 400),
            (b"&".join(b"a%d=1" % n for n in range(100)),
             {"Content-Type": "application/x-www-form-urlencoded"}, 400),
            (b"token=%ff%fe", {"Content-Type": "application/x-www-form-urlencoded"}, 403),
        ):  # fmt: skip
            answer = client.post(path, content=content, headers=headers | door.origin)
            assert answer.status_code == status, (content[:20], headers, answer.text[-500:])
            assert "<h1>" in answer.text

        def endless() -> Iterator[bytes]:
            yield b"token=x"

        headers = {"Content-Type": "application/x-www-form-urlencoded", **door.origin}
        assert client.post(path, content=endless(), headers=headers).status_code == 411


def test_chunks_beside_a_length_are_not_read(door: Door) -> None:
    # The length that is announced would be the limit, and what is read is the chunks.
    host, _, port = door.base.removeprefix("http://").rpartition(":")
    head = (
        "POST /console/login HTTP/1.1\r\n"
        f"Host: {host}:{port}\r\nOrigin: {door.base}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n"
        "Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    rest = b"y" * 2_000_000 + b"\r\n--x--\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as peer:
        peer.sendall(head.encode())
        with suppress(OSError):  # it may be gone before all of this is sent
            for chunk in (part, rest, b""):
                peer.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        status = peer.makefile("rb").readline().split()[1]
    assert status in (b"400", b"411")


def test_a_record_that_is_not_there_is_not_found(door: Door) -> None:
    with door.owner() as client:
        path = f"/console/channels/{door.channel}/record"
        for index in ("99", "0" * 18 + "9" * 30, "9" * 5000, "-1", "²", ""):
            answer = client.get(path, params={"party": door.party.name, "index": index})
            assert answer.status_code == 404, index


def test_odd_periods_and_names_never_fail_inside_the_node(door: Door) -> None:
    channel = f"/console/channels/{door.channel}"
    hours = ("0001-01-01T00", "1970-01-01T00", "1969-12-31T23", "9998-12-31T23", "9999-12-31T23")
    with door.owner() as client:
        for hour in (*hours, "2026-10-03T10%00", "x" * 2000, "%ff", "..", "2026-10-03T99"):
            for more in ("", "/close", "/bundle", "/checkpoint", "/statement?as=pdf", "?page=99"):
                answer = client.get(f"{channel}/periods/{hour}{more}")
                assert answer.status_code < 500, (hour, more)
            path = f"{channel}/dispute?period={hour}&meter=%ff&subject=%00"
            assert client.get(path).status_code < 500, hour
        for name in ("%ff", "%00", "x" * 5000, "a/b/c", "/", "\u202e"):
            for path in (
                f"/console/deltas?name={name}",
                f"{channel}/proof?name={name}&log=provider",
                f"/console/disputes/{name}",
                f"/console/evidence/{name}",
                f"/console/comparisons/{name}",
                f"/console/channels/{name}",
                f"/console/peers/{name}/propose",
                f"/console/proposals/{name}",
            ):
                assert client.get(path).status_code < 500, path


def test_nothing_of_a_login_is_logged_or_in_an_address(door: Door) -> None:
    key = tally_json(door.party, "keys", "add", "quiet", "--scope", "admin")["key"]
    with door.client() as client:
        code, ticket = door.code(), door.ticket()
        answers = [door.login(client, key=key), door.login(client, code=code)]
        answers.append(
            client.post("/console/login", data={"ticket": ticket}, headers={"Origin": "null"})
        )
        secrets = [key, code, ticket, *client.cookies.values()]
        for answer in answers:
            assert not [one for one in secrets if one in answer.text]
            assert not [one for one in secrets if one in str(answer.url)]
            assert not [one for one in secrets[:3] if one in str(answer.headers)]
    logged = door.party.log.read_text()
    assert not [one for one in secrets if one in logged]


def test_strangers_use_up_nothing_of_whoever_is_logged_in(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as (party, _):
        party.stop()
        party.configure("[http]\nrequests_per_second = 20\n")
        party.start()
        door = Door(party, party.json("status")["http"], "")
        with door.owner() as owner, door.client() as stranger:
            answers = {stranger.get("/console/login").status_code for _ in range(60)}
            assert 429 in answers
            assert owner.get("/console/").status_code == 200
