"""Quotas of two real nodes: what is said when one is reached, and that raising it is enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import nodes
import pytest
import trio
from attacker import COUNTED, TERMS, USED, Attacker, call, delta, emit, found, standing

from tallystick.node.errors import PeerUnreachable
from tallystick.protocol.messages import Append, Cosign, Full, Hello

TIGHT = """
[quotas]
log_mebibytes = 1
proposals = 2
"""
RAISED_BUT_SLOW = """
[quotas]
records_per_second = 1000
burst_seconds = 1
links_per_minute = 5
"""

Two = tuple[nodes.Party, nodes.Party, str]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Acme with tight quotas, beta, and their channel."""
    folder = tmp_path_factory.mktemp("quotas")
    acme, beta = (nodes.Party(folder, f"{name}.example") for name in ("acme", "beta"))
    try:
        for party, text in ((acme, TIGHT), (beta, "")):
            party.tally("init", "--name", party.name)
            party.configure(text)
            party.start()
        nodes.pair(acme, beta)
        yield acme, beta, trio.run(found, acme, beta)
    finally:
        acme.stop()
        beta.stop()


def _standing(party: nodes.Party, channel: str) -> dict[str, Any]:
    return standing(party, channel, trio.run(call, party, "live"))


def _digest(party: nodes.Party, channel: str) -> str:
    digest: str = party.json("derive", "--channel", channel)["digest"]
    return digest


def test_proposals_that_nobody_accepts_are_few(two: Two) -> None:
    acme, beta, _ = two
    source = TERMS.format(acme.name, beta.name).encode()

    def propose() -> dict[str, str]:
        answer: dict[str, str] = trio.run(
            lambda: call(beta, "propose", source=source, to=acme.name)
        )
        return answer

    answers = [propose() for _ in range(3)]
    assert [answer["delivered"] for answer in answers] == [True, True, False]
    assert "2 of your proposals wait" in answers[2]["refused"]
    assert len(acme.json("status")["proposals"]) == 2
    acme.tally("accept", answers[0]["channel"], "--yes")
    assert propose()["delivered"]


def test_a_full_log_waits_and_goes_on_when_the_quota_is_raised(two: Two) -> None:
    acme, beta, channel = two

    async def fill() -> int:
        for batch in range(16):
            ids = [f"{batch}-{n}-{'x' * 110}" for n in range(500)]
            size = await emit(beta, channel, ids, COUNTED)
        # Acme's own log is not concerned: beta co-signs it as before.
        own = await emit(acme, channel, ["still"], USED)
        await call(acme, "wait", channel=channel, size=own, seconds=10.0)
        return size

    size = trio.run(fill)
    nodes.wait_until(lambda: _standing(beta, channel)["withheld"])
    at_beta, at_acme = _standing(beta, channel), _standing(acme, channel)
    assert "quota of this log is reached" in at_beta["withheld"]
    assert at_beta["state"] == at_acme["state"] == "open"
    assert at_acme["quota"]["reached"]
    held, limit = at_acme["quota"]["held_bytes"], at_acme["quota"]["limit_bytes"]
    assert limit == 2**20 <= held <= 2**20 + 300_000
    assert at_acme["theirs"]["size"] < size == at_beta["own"]["size"]
    assert "quota reached" in acme.tally("status").stdout
    assert "take no more of our log" in beta.tally("status").stdout
    with pytest.raises(PeerUnreachable, match="quota of this log"):
        trio.run(lambda: call(beta, "wait", channel=channel, size=size, seconds=0.1))

    acme.stop()
    acme.configure(RAISED_BUT_SLOW)
    acme.start()
    trio.run(lambda: call(beta, "wait", channel=channel, size=size, seconds=30.0))
    assert _standing(beta, channel)["withheld"] == ""
    assert not _standing(acme, channel)["quota"]["reached"]
    assert _digest(acme, channel) == _digest(beta, channel)


def test_records_come_no_faster_than_allowed_and_links_no_more_often(two: Two) -> None:
    acme, beta, channel = two
    beta.stop()
    attacker = Attacker(acme, beta)
    log = next(log for log in attacker.logs if log.channel.hex() == channel)

    async def send() -> tuple[float, int]:
        async with attacker.line(log) as line:
            began, now = time.monotonic(), time.time_ns() // 1000
            for batch in range(5):
                names = [f"fast-{batch}-{n}" for n in range(500)]
                await line.say(log.extend(*[delta(name, recorded_at=now) for name in names]))
            while (await line.until(Cosign, log.channel)).size < log.state.size:
                line.heard.remove(await line.until(Cosign, log.channel))
            took = time.monotonic() - began
            assert not [m for m in line.heard if isinstance(m, Full)]
            await line.until(Append, log.channel)
        heard = 0
        for _ in range(8):
            async with attacker.bare() as line:
                await line.say(attacker.hello(), attacker.presence())
                with trio.move_on_after(0.5):
                    while not line.closed and not line.heard:
                        await trio.sleep(0.01)
                heard += any(isinstance(message, Hello) for message in line.heard)
        return took, heard

    took, heard = trio.run(send)
    # 1,000 at once and 1,000 a second: the last batch waits for the 2,000 before it.
    assert took >= 0.9
    assert heard <= 5
