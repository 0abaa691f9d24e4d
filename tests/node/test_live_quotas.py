"""Quotas of two real nodes: what is said when one is reached, and that raising it is enough."""

from __future__ import annotations

import time
from collections.abc import Iterator

import nodes
import pytest
import trio
from attacker import COUNTED, TERMS, USED, Attacker, call, delta, emit, found

from tallystick.node.errors import PeerUnreachable
from tallystick.protocol.messages import Append, Cosign, Full, Hello

TIGHT = """
[quotas]
log_mebibytes = 1
proposals = 2
"""
SLOW = """
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
    with nodes.running(folder) as (acme, beta):
        nodes.pair(acme, beta)
        acme.stop()
        acme.configure(TIGHT)
        acme.start()
        yield acme, beta, trio.run(found, acme, beta)


def _channel(party: nodes.Party) -> dict[str, object]:
    document: dict[str, object] = party.json("status")["channels"][0]
    return document


def test_a_full_log_waits_and_goes_on_when_the_quota_is_raised(two: Two) -> None:
    acme, beta, channel = two

    async def fill() -> int:
        for batch in range(20):
            ids = [f"{batch}-{n}" for n in range(1000)]
            size = await emit(beta, channel, ids, COUNTED)
        # Acme's own log is not concerned: beta co-signs it as before.
        own = await emit(acme, channel, ["still"], USED)
        await call(acme, "wait", channel=channel, size=own, seconds=10.0)
        return size

    size = trio.run(fill)
    nodes.wait_until(lambda: _channel(beta)["withheld"])
    at_beta, at_acme = _channel(beta), _channel(acme)
    assert "quota is reached" in str(at_beta["withheld"])
    assert at_beta["state"] == at_acme["state"] == "open"
    assert at_acme["quota"]["reached"]  # type: ignore[index]
    held, limit = at_acme["quota"]["held_bytes"], at_acme["quota"]["limit_bytes"]  # type: ignore[index]
    assert limit == 2**20 <= held <= 2**20 + 300_000
    assert at_acme["theirs"]["size"] < size == at_beta["own"]["size"]  # type: ignore[index]
    assert "quota reached" in acme.tally("status").stdout
    assert "take no more of our log" in beta.tally("status").stdout
    with pytest.raises(PeerUnreachable, match="quota is reached"):
        trio.run(lambda: call(beta, "wait", channel=channel, size=size, seconds=0.1))

    acme.stop()
    acme.configure("")
    acme.start()
    trio.run(lambda: call(beta, "wait", channel=channel, size=size, seconds=30.0))
    assert _channel(beta)["withheld"] == ""
    assert not _channel(acme)["quota"]["reached"]  # type: ignore[index]
    assert acme.json("derive")["digest"] == beta.json("derive")["digest"]


def test_proposals_that_nobody_accepts_are_few(two: Two) -> None:
    acme, beta, _ = two
    acme.stop()
    acme.configure(TIGHT)
    acme.start()
    source = TERMS.format(acme.name, beta.name).encode()
    answers = [trio.run(lambda: call(beta, "propose", source=source, to=acme.name)) for _ in "123"]
    assert [answer["delivered"] for answer in answers] == [True, True, False]
    assert "2 of your proposals wait" in answers[2]["refused"]
    assert len(acme.json("status")["proposals"]) == 2
    # With one accepted there is room again, and it comes by itself at the next greeting.
    acme.tally("accept", answers[0]["channel"], "--yes")
    beta.stop()
    beta.start()
    nodes.wait_until(lambda: len(acme.json("status")["proposals"]) == 2)


def test_records_come_no_faster_than_allowed_and_links_no_more_often(two: Two) -> None:
    acme, beta, channel = two
    acme.stop()
    acme.configure(SLOW)
    acme.start()
    nodes.wait_until(lambda: _channel(beta)["state"] == "open")
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
                await line.say(attacker.hello())
                with trio.move_on_after(0.5):
                    while not line.closed and not line.heard:
                        await trio.sleep(0.01)
                heard += any(isinstance(message, Hello) for message in line.heard)
        return took, heard

    took, heard = trio.run(send)
    # 1,000 at once and 1,000 a second: the last batch waits for the 2,000 before it.
    assert took >= 0.9
    assert heard <= 5
