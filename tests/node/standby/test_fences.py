"""A peer hears the newest generation of a party and no older one; lies about it do nothing."""

from __future__ import annotations

from collections.abc import Iterator

import attacker
import pytest
import trio
from attacker import HostileLog, Line, World

from tallystick.protocol.generation import prove_generation, verify_generation
from tallystick.protocol.messages import Channels, Fenced, Presence, Promoted


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world of its own: fences stay."""
    with attacker.hostile_world(tmp_path_factory.mktemp("fences"), 1) as made:
        yield made


async def _introduce(world: World, line: Line, generation: int, proof: bytes = b"") -> None:
    said = [world.attacker.hello()]
    presence = Presence(bytes([generation]) * 16, generation, False, None)
    proved = [Promoted(generation, proof)] if proof else []
    await line.say(*said, *proved, presence)


def _proof(world: World, generation: int) -> bytes:
    return prove_generation(world.attacker.identity, generation)


def test_a_generation_that_the_party_did_not_sign_is_refused_and_changes_nothing(
    world: World,
) -> None:
    async def work() -> None:
        for proof in (b"", bytes(64), _proof(world, 2)):
            async with world.attacker.bare() as line:
                await _introduce(world, line, 3, proof)
                assert await line.gone() == "bad-generation"
        async with world.attacker.line(world.shared):
            pass
        await world.goes_on_elsewhere()

    trio.run(work)


def test_a_lie_that_a_node_was_superseded_stops_no_node(world: World) -> None:
    async def work() -> None:
        for proof in (bytes(64), _proof(world, 9)):  # its own party's, and not acme's
            async with world.attacker.line(world.shared) as line:
                await line.say(Fenced(9, proof))
                assert await line.gone() == ""
        await world.goes_on_elsewhere()
        assert not (world.acme.home / "superseded").exists()
        assert "does not prove it" in world.log_text()

    trio.run(work)


def test_the_newest_generation_shuts_out_the_older_durably(world: World) -> None:
    async def fenced(line: Line) -> None:
        found = await line.until(Fenced)
        identity = world.attacker.identity
        verify_generation(identity.name, identity.cosigner_key, found.generation, found.proof)
        assert found.generation == 5
        await line.gone()

    async def old_comes(log: HostileLog) -> None:
        async with world.attacker.bare() as line:
            await line.say(world.attacker.hello(), world.attacker.presence())
            await fenced(line)
            assert not [m for m in line.heard if isinstance(m, Channels)]

    async def work() -> None:
        async with world.attacker.line(world.shared) as before, world.attacker.bare() as line:
            await _introduce(world, line, 5, _proof(world, 5))
            await fenced(before)
            await line.until(Channels)
            await old_comes(world.shared)
        world.acme.kill()
        world.acme.start()
        await old_comes(world.shared)
        async with world.attacker.bare() as line:
            await _introduce(world, line, 5, _proof(world, 5))
            await line.until(Channels)
        await world.goes_on_elsewhere()

    trio.run(work)
