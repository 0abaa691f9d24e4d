"""A real node finds two lines of a witness that contradict each other; anybody can check them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import hurried
import nodes
import trio
from witnesses import ScriptedWitness

from tallystick.protocol.witness import Seen


def test_a_witness_that_went_back_is_convicted_by_its_own_lines(tmp_path: Path) -> None:
    with hurried.running(tmp_path, "acme", "beta") as (acme, beta):
        hurried.found(acme, beta)
        trio.run(_go_back, acme, beta)
        (log,) = _logs(acme)
        assert "it went back from 3 records" in log["breach"]
        shown = " ".join(acme.tally("witness").stdout.split())
        assert "two of its lines convict it: tally witness export w.example -o FILE" in shown
        assert "witness.breach" in hurried.kinds(acme)

        file = tmp_path / "w.evidence"
        acme.tally("witness", "export", "w.example", "-o", str(file))
        checked = " ".join(acme.tally("verify", str(file)).stdout.split())
        assert "it co-signed 3 records and, 60 seconds later, 2 as all that it knew" in checked
        file.write_bytes(file.read_bytes().replace(b"\n3\n", b"\n4\n"))
        assert acme.tally("verify", str(file), check=False).returncode == 1
        refused = acme.tally("witness", "export", "x.example", "-o", str(file), check=False)
        assert refused.returncode == 2
        assert "nothing here convicts" in refused.stderr

        acme.stop()
        doctor = acme.tally("doctor")
        assert doctor.returncode == 0


async def _go_back(acme: nodes.Party, beta: nodes.Party) -> None:
    """A witness co-signs two heads, forgets the second, and is shown a third."""
    witness = ScriptedWitness()

    async def until(condition: Any) -> None:
        await trio.to_thread.run_sync(partial(hurried.until, condition))

    async def emit(id: str) -> None:
        await trio.to_thread.run_sync(hurried.emit, acme, beta, id)

    async with trio.open_nursery() as nursery:
        await nursery.start(witness.serve)
        await trio.to_thread.run_sync(acme.stop)
        acme.configure(
            f"{hurried.CONFIG}[witnessing]\nevery_seconds = 0.0\n[[witnessing.witnesses]]\n"
            f'vkey = "{witness.vkey}"\nurl = "{witness.url}"\n'
        )
        await trio.to_thread.run_sync(acme.start)
        for size in (2, 3):
            await emit(f"d-{size}")
            await until(lambda: [log["size"] for log in _logs(acme)] == [size])  # noqa: B023
        (origin,) = witness.seen
        older = next(r.head for r in witness.asked if r.head.size == 2)
        witness.seen[origin] = Seen(older.size, older.root)
        witness.now_s += 60
        await emit("d-4")
        await until(lambda: _logs(acme)[0]["evidence"])
        await until(lambda: _logs(acme)[0]["size"] == 4)
        nursery.cancel_scope.cancel()


def _logs(party: nodes.Party) -> Any:
    return party.json("witness")["witnesses"][0]["logs"]
