"""A party's standby as a process, and how to tell whether it holds what its primary holds."""

from __future__ import annotations

from pathlib import Path

import nodes

from tallystick.node.standby.marks import is_mirrored
from tallystick.node.store.disk import Store
from tallystick.node.store.keyspace import TABLES

SERVE = "[standby]\nserve = true\n"
WAIT = "[standby]\nserve = true\nwait = true\nwait_seconds = {seconds}\n"


class Standby(nodes.Party):
    """The standby of a party whose node runs; a party itself once it is promoted."""

    def __init__(
        self, folder: Path, primary: nodes.Party, code: str = nodes.MAIN, address: str = ""
    ) -> None:
        super().__init__(folder, primary.name, code)
        self.tally(
            "standby", "init", "--name", primary.name, "--primary", address or primary.address,
            "--seed-file", str(primary.home / "seed"),
        )  # fmt: skip

    def follow(self) -> None:
        """Start it, and wait until it serves reads."""
        process = self.launch()
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(f"standby {self.name} "):
            raise nodes.Failed(f"the standby did not start; see {self.log}")

    def promote(self) -> dict[str, object]:
        """Let it take over, and wait until it is a node."""
        answer: dict[str, object] = self.json("promote", "--yes")
        assert self.process is not None
        if not self.wait_ready(self.process):
            raise nodes.Failed(f"the promoted node did not start; see {self.log}")
        return answer


def content(home: Path) -> dict[str, object]:
    """All that a store holds of what is mirrored, and the files of its id index."""
    store = Store(home / "store", read_only=True)
    try:
        return content_of(store, home / "ids")
    finally:
        store.close()


def content_of(store: Store, index_folder: Path) -> dict[str, object]:
    """The same of an open store."""
    with store.read() as txn:
        found: dict[str, object] = {
            table: [
                (key, bytes(value)) for key, value in txn.stored(table) if is_mirrored(table, key)
            ]
            for table in TABLES
        }
    found["files"] = {path.name: path.read_bytes() for path in index_folder.glob("*.run")}
    return found


def in_step(primary: nodes.Party, standby: nodes.Party) -> bool:
    """Whether the two homes hold the same at a moment at which nothing is recorded."""
    return content(primary.home) == content(standby.home)
