"""What was never signed is taken out of a log: what the disk says then, whatever it had to do."""

from __future__ import annotations

import time
from pathlib import Path

import homes

from tallystick.node import recovery
from tallystick.node.importing.drafts import Draft
from tallystick.node.store.disk import Txn


async def test_a_signature_on_its_way_to_the_disk_does_not_bring_back_what_is_cut(
    tmp_path: Path,
) -> None:
    async with homes.alone(tmp_path) as side:
        channel, store = side.channel, side.books.store
        await channel.emit_paused([Draft("first", "tokens", "s", 1, 1)])
        channel.live = False
        await channel.emit_paused([Draft("second", "tokens", "s", 1, 1)])

        def slow(txn: Txn) -> None:
            time.sleep(0.2)  # the disk is busy with something else

        store.submit(slow)
        await store.off_thread(time.sleep, 0.05)
        channel.own.store_cosignature(2, bytes(72))
        await recovery.set_aside(channel)
        await store.commit(lambda txn: None)
        assert channel.own.durable_size == 2
        channel.load()
        assert channel.own.state.size == 2
