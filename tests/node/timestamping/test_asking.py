"""Asking an authority over HTTP: an honest one is believed, and no lie, however it is told."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from authorities import Answer, Asked, Authority, Door, honest, served
from stamping import Maker, Stamp, der, integer

from tallystick.node.config import TimestampsConfig
from tallystick.node.errors import EndpointError
from tallystick.node.timestamping.asking import Asker, Outcome, load_trusted
from tallystick.protocol.errors import InputError
from tallystick.protocol.timestamps import check_chain, check_token, parse_response

NOTE = b"what both signed\n\n"
MAKER = Maker()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def nonce_of(query: bytes) -> int:
    """The nonce of a request that our node made: its last integer, before a boolean."""
    place = query.rindex(b"\x01\x01\xff")
    size = next(n for n in range(1, 20) if query[place - n - 2 : place - n] == bytes([2, n]))
    return int.from_bytes(query[place - size : place], "big")


def made(**changes: object) -> Answer:
    """The answers of an authority whose timestamps have these changes."""

    def answer(asked: Asked) -> None:
        good = Stamp(NOTE, nonce=nonce_of(asked.query))
        asked.say(MAKER.response(replace(good, **changes)))  # type: ignore[arg-type]

    return answer


async def ask(answer: Answer, trusted: list[bytes], seconds: float = 5.0) -> tuple[Outcome, Door]:
    with served(answer) as door:
        asker = Asker(TimestampsConfig(url=door.url, timeout_seconds=seconds), trusted)
        outcome = await asker.ask(NOTE)
        await asker.aclose()
    return outcome, door


async def said(answer: Answer, seconds: float = 5.0) -> str:
    """What is said of an answer that must not be believed."""
    outcome, _ = await ask(answer, [MAKER.root_der], seconds)
    assert not outcome.response
    assert outcome.token is None
    return outcome.said


async def test_a_real_authority_is_believed(authority: Authority) -> None:
    trusted = load_trusted(TimestampsConfig(certificates=str(authority.root)), Path("/"))
    outcome, door = await ask(honest(authority), trusted)
    assert outcome.said == ""
    token = parse_response(outcome.response)
    check_token(token, NOTE)
    check_chain(outcome.response, NOTE, trusted)
    assert authority.verifies(NOTE, outcome.response)
    assert outcome.token == token
    assert token.nonce == nonce_of(door.queries[0])


async def test_each_request_has_another_nonce(authority: Authority) -> None:
    with served(made()) as door:
        asker = Asker(TimestampsConfig(url=door.url), [MAKER.root_der])
        for _ in range(5):
            assert (await asker.ask(NOTE)).token
        await asker.aclose()
    assert len({nonce_of(query) for query in door.queries}) == 5


async def test_lies_are_not_believed(authority: Authority) -> None:
    assert "of something else" in await said(made(data=b"another note"))
    assert "its nonce is not ours" in await said(made(nonce=5))
    assert "its nonce is not ours" in await said(made(nonce=None))
    assert "signature does not hold" in await said(made(signature=b"x"))
    assert "was not valid" in await said(made(time="20400101000000Z"))
    assert "status 2: go away" in await said(
        made(status=der(0x30, integer(2), der(0x30, der(0x0C, b"go away"))))
    )
    assert "does not lead to one that is trusted" in await said(honest(authority))
    kept = MAKER.response(Stamp(NOTE, nonce=1))
    assert "its nonce is not ours" in await said(lambda asked: asked.say(kept))


async def test_what_is_no_timestamp_is_not_believed() -> None:
    assert "not DER" in await said(lambda asked: asked.say(b"<html>"))
    assert "0 values" in await said(lambda asked: asked.say(b""))
    assert await said(lambda asked: asked.say(b"", 503)) == "it answers 503"
    assert await said(lambda asked: asked.say(b"x", 301)) == "it answers 301"
    huge = b"\x30\x84\x7f\xff\xff\xff" + bytes(10_000_000)
    assert "longer than 65536 bytes" in await said(lambda asked: asked.say(huge))

    def no_http(asked: Asked) -> None:
        asked.wfile.write(b"\x00\xff" * 1000 + b"\r\n\r\n")

    assert await said(no_http)
    assert await said(lambda asked: None)


async def test_who_is_slow_is_not_waited_for() -> None:
    def hang(asked: Asked) -> None:
        asked.server.stopping.wait(20)

    def drip(asked: Asked) -> None:
        asked.send_response(200)
        asked.send_header("Content-Length", "1000")
        asked.end_headers()
        while not asked.server.stopping.wait(0.05):
            asked.wfile.write(b"0")

    for answer in (hang, drip):
        began = time.monotonic()
        assert await said(answer, 0.5) == "no answer within 0.5 seconds"
        assert time.monotonic() - began < 15, "it was waited for until the server gave up"


async def test_nobody_there_and_places_that_are_none() -> None:
    with served(made()) as door:
        url = door.url
    outcome = await Asker(TimestampsConfig(url=url), [MAKER.root_der]).ask(NOTE)
    assert outcome.said
    assert outcome.token is None
    lost = await Asker(TimestampsConfig(url="http://169.254.169.254/tsr"), []).ask(NOTE)
    assert "no receiver has such an address" in lost.said
    for wrong in ("ftp://tsa.example", "tsa.example", "https://user@tsa.example/", "https://a b/"):
        with pytest.raises(EndpointError):
            Asker(TimestampsConfig(url=wrong), [])


async def test_when_to_ask_again_is_the_authoritys_word_within_bounds() -> None:
    def later(asked: Asked) -> None:
        asked.send_response(429)
        asked.send_header("Retry-After", "120")
        asked.send_header("Content-Length", "0")
        asked.end_headers()

    outcome, _ = await ask(later, [MAKER.root_der])
    assert (outcome.said, outcome.retry_after_seconds) == ("it answers 429", 120)


def test_certificates_to_trust_are_a_file_in_the_home_or_anywhere(tmp_path: Path) -> None:
    (tmp_path / "tsa.pem").write_bytes(MAKER.root_pem)
    for path in ("tsa.pem", str(tmp_path / "tsa.pem")):
        assert load_trusted(TimestampsConfig(certificates=path), tmp_path) == [MAKER.root_der]
    (tmp_path / "none.pem").write_text("nothing")
    for path, words in (("", "no certificates to check"), ("gone", "cannot be read"),
                        (".", "cannot be read"), ("none.pem", "no certificates in")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            load_trusted(TimestampsConfig(certificates=path), tmp_path)
