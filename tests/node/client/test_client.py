"""Both clients with real nodes: over TCP with a key, and through the Unix socket."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import emitting
import pytest
from emitting import CHANNEL, METER

from tallystick.client import (
    AsyncClient,
    Client,
    Conflict,
    Delta,
    NotAllowed,
    NotCosigned,
    NotFound,
    Refused,
    Retry,
    Unreachable,
)

SOCKET = "socket"
AT = "2026-01-01T00:00:00Z"
QUICK = Retry(attempts=2, first=0.01)
Both = tuple[emitting.Emitter, emitting.Emitter]


@pytest.fixture(params=["tcp", "socket"])
def client(request: pytest.FixtureRequest, acme: emitting.Emitter) -> Any:
    if request.param == "socket":
        made = Client(socket=acme.party.home / SOCKET, channel=CHANNEL)
    else:
        made = Client(acme.url, key=acme.emit_key, channel=CHANNEL)
    with made:
        yield made


def test_a_delta_is_recorded_once_however_often_it_is_sent(
    client: Client, acme: emitting.Emitter
) -> None:
    prefix = acme.prefix()
    first = client.emit(METER, 374, "s", id=f"{prefix}1", occurred_at=AT)
    assert (first.duplicate, first.cosigned, first.delta.quantity) == (False, False, "374")
    again = client.emit_delta(first.delta, wait_seconds=30)
    assert (again.index, again.duplicate, again.cosigned) == (first.index, True, True)
    assert acme.recorded(prefix) == [1]
    with pytest.raises(Conflict, match="recorded with other content") as raised:
        client.emit(METER, 375, "s", id=f"{prefix}1", occurred_at=AT)
    assert raised.value.problem.type == "urn:tallystick:ConflictError"
    assert "Use a new id" in raised.value.problem.detail + raised.value.problem.advice


def test_without_an_id_each_emit_is_another_delta(client: Client) -> None:
    one, other = (client.emit(METER, 1, "s") for _ in range(2))
    assert one.delta.id != other.delta.id
    assert other.index == one.index + 1


def test_many_are_taken_or_refused_each_for_itself(client: Client, acme: emitting.Emitter) -> None:
    prefix = acme.prefix()

    def made() -> Any:
        for n in range(2500):
            yield Delta.of(METER, n, "s", id=f"{prefix}{n}", occurred_at=AT)
        yield Delta.of("miles", 1, "s")
        yield Delta.of(METER, Decimal("0.5"), "s")
        yield Delta.of(METER, 7, "s", id=f"{prefix}3", occurred_at=AT)

    emitted = client.emit_many(made())
    assert (emitted.recorded, emitted.duplicate, len(emitted.receipts)) == (2500, 0, 2500)
    assert [refusal.delta.meter for refusal in emitted.refusals] == ["miles", METER, METER]
    kinds = [refusal.kind for refusal in emitted.refusals]
    assert kinds == ["TermsError", "QuantityError", "ConflictError"] or kinds[1:] == [
        "QuantityError",
        "ConflictError",
    ]
    client.wait_cosigned(*emitted.receipts, seconds=30)
    again = client.emit_many(receipt.delta for receipt in emitted.receipts)
    assert (again.recorded, again.duplicate) == (0, 2500)
    assert all(receipt.duplicate for receipt in again.receipts)
    assert acme.recorded(prefix) == list(range(2500))
    assert client.emit_many([]).receipts == ()


def test_the_two_parties_read_the_same(both: Both) -> None:
    acme, beta = both
    at = "2020-05-01T00:00:00Z"
    with Client(acme.url, key=acme.emit_key, channel=CHANNEL) as emitting_client:
        emitting_client.emit(METER, 12, "reading", occurred_at=at, wait_seconds=30)
    readers = (
        Client(acme.url, key=acme.read_key, channel=CHANNEL),
        Client(beta.url, key=beta.read_key, channel="acme.example"),
    )
    with readers[0] as mine, readers[1] as theirs:
        line = mine.balance("2020-05-01T00", meter=METER, subject="reading").lines[0]
        assert (line.payable, line.unit, line.consumer, line.deltas) == ("12", "token", None, 1)
        assert theirs.balance("2020-05-01T00", subject="reading").lines[0].payable == "12"
        status = mine.status()
        assert (status.name, status.channels[0].peer) == ("acme.example", "beta.example")
        assert status.channels[0].own.cosigned <= status.channels[0].own.size
        acme.party.tally("checkpoint", "2020-05-01T00", "--force")
        (closed,) = [one for one in mine.checkpoints() if one.period == "2020-05-01T00"]
        checkpoint = theirs.checkpoint("2020-05-01T00")
        assert checkpoint.digest == closed.digest
        assert set(checkpoint.signed_by) == {"acme.example", "beta.example"}
        with pytest.raises(NotFound, match="2026-05-02T00 is not closed"):
            mine.checkpoint("2026-05-02T00")


def test_errors_carry_the_problem(acme: emitting.Emitter) -> None:
    with Client(acme.url, key="tally_no", channel=CHANNEL, retry=QUICK) as client:
        with pytest.raises(NotAllowed) as raised:
            client.emit(METER, 1, "s")
        assert raised.value.problem.status == 401
        assert "tally keys add" in raised.value.problem.advice
    reader = Client(acme.url, key=acme.read_key, channel=CHANNEL)
    with reader, pytest.raises(NotAllowed, match="lacks the scope emit"):
        reader.emit(METER, 1, "s")
    with Client(acme.url, key=acme.emit_key, channel="nobody.example") as client:
        with pytest.raises(NotFound, match="no channel matches 'nobody"):
            client.emit(METER, 1, "s")
        with pytest.raises(Refused, match="has more decimal places"):
            client.emit(METER, "0.5", "s", channel=CHANNEL)


def test_a_peer_that_is_away_is_told_apart(both: Both) -> None:
    acme, beta = both
    beta.party.stop()
    try:
        with Client(acme.url, key=acme.emit_key, channel=CHANNEL) as client:
            receipt = client.emit(METER, 1, "s")
            with pytest.raises(NotCosigned, match="has not co-signed within 1 seconds"):
                client.wait_cosigned(receipt, seconds=1)
    finally:
        beta.party.start()
    with Client(acme.url, key=acme.emit_key, channel=CHANNEL) as client:
        client.wait_cosigned(receipt, seconds=60)


def test_a_node_that_is_down_is_waited_for_within_the_retries(acme: emitting.Emitter) -> None:
    prefix = acme.prefix()
    with Client(acme.url, key=acme.emit_key, channel=CHANNEL, retry=Retry(attempts=60)) as client:
        client.emit(METER, 1, "s", id=f"{prefix}1")  # the connection will be a dead one
        with acme.down(0.5):
            client.emit(METER, 2, "s", id=f"{prefix}2")
    acme.party.kill()
    try:
        over_tcp = Client(acme.url, key=acme.emit_key, channel=CHANNEL, retry=QUICK)
        with over_tcp, pytest.raises(Unreachable, match="cannot be reached"):
            over_tcp.emit(METER, 3, "s")
    finally:
        acme.party.start()
    assert acme.recorded(prefix) == [1, 2]


# httpcore leaves a Unix socket that could not be connected to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_socket_without_a_node_is_named(tmp_path: Path) -> None:
    client = Client(socket=tmp_path / SOCKET, channel=CHANNEL, retry=QUICK)
    with client, pytest.raises(Unreachable, match=f"{SOCKET} cannot be reached"):
        client.emit(METER, 3, "s")


def test_threads_share_a_client(acme: emitting.Emitter) -> None:
    prefix = acme.prefix()
    with Client(acme.url, key=acme.emit_key, channel=CHANNEL) as client:

        def send(n: int) -> None:
            client.emit(METER, n, "s", id=f"{prefix}{n}")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(send, range(200)))
    assert acme.recorded(prefix) == list(range(200))


def test_a_forked_process_has_connections_of_its_own(acme: emitting.Emitter) -> None:
    prefix = acme.prefix()
    with Client(acme.url, key=acme.emit_key, channel=CHANNEL) as client:
        client.emit(METER, 0, "s", id=f"{prefix}0")
        child = os.fork()
        if not child:
            try:
                for n in range(1, 50):
                    client.emit(METER, n, "s", id=f"{prefix}{n}")
                os._exit(0)
            finally:
                os._exit(1)
        for n in range(50, 100):
            client.emit(METER, n, "s", id=f"{prefix}{n}")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert acme.recorded(prefix) == list(range(100))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give the node's URL"),
        ({"url": "http://x", "socket": "y"}, "give the node's URL"),
        ({"url": "127.0.0.1:7451"}, "is not a URL"),
    ],
)
def test_what_cannot_be_a_node_is_said_at_once(options: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Client(**options)  # type: ignore[arg-type]


def test_a_channel_must_be_named(acme: emitting.Emitter) -> None:
    with Client(acme.url, key=acme.emit_key) as client, pytest.raises(ValueError, match="channel"):
        client.emit(METER, 1, "s")


def test_the_other_client_does_the_same_on_asyncio_and_trio(acme: emitting.Emitter) -> None:
    async def work() -> None:
        prefix = acme.prefix()
        made = (
            AsyncClient(acme.url, key=acme.emit_key, channel=CHANNEL),
            AsyncClient(socket=acme.party.home / SOCKET, channel=CHANNEL),
        )
        async with made[0] as client, made[1] as owner:
            first = await client.emit(METER, 1, "s", id=f"{prefix}0", occurred_at=AT)
            again = await owner.emit_delta(first.delta, wait_seconds=30)
            assert (again.index, again.duplicate, again.cosigned) == (first.index, True, True)
            with pytest.raises(Conflict):
                await client.emit(METER, 2, "s", id=f"{prefix}0", occurred_at=AT)
            deltas = [Delta.of(METER, n, "s", id=f"{prefix}{n}") for n in range(1, 1500)]
            emitted = await client.emit_many([*deltas, Delta.of("miles", 1, "s")])
            assert (emitted.recorded, len(emitted.refusals)) == (1499, 1)
            await client.wait_cosigned(*emitted.receipts)
            async with anyio.create_task_group() as group:
                for n in range(1500, 1600):
                    group.start_soon(client.emit_delta, Delta.of(METER, n, "s", id=f"{prefix}{n}"))
            with pytest.raises(NotAllowed):
                await client.status()
            assert (await owner.status()).name == "acme.example"
            assert (await owner.balance(meter=METER)).lines
            assert isinstance(await owner.checkpoints(), tuple)
            with pytest.raises(NotFound):
                await owner.checkpoint("2026-06-01T00")
        assert acme.recorded(prefix) == list(range(1600))
        acme.party.kill()
        try:
            async with AsyncClient(acme.url, key="x", channel=CHANNEL, retry=QUICK) as client:
                with pytest.raises(Unreachable):
                    await client.emit(METER, 1, "s")
        finally:
            acme.party.start()

    emitting.on_both(work)
