"""A log as tiles: read by Go's own client, written on, and never over another one."""

from __future__ import annotations

import base64
from pathlib import Path

import builders
import gotools
import homes
import pytest

from tallystick.node.importing.drafts import Draft
from tallystick.node.publishing import _bundle, publish, tile_path
from tallystick.protocol.errors import InputError
from tallystick.protocol.heads import parse_head
from tallystick.protocol.merkle import leaf_hash, root_of
from tallystick.protocol.notes import parse_note


async def grow(a: homes.Side, b: homes.Side, start: int, stop: int) -> None:
    at = builders.OCTOBER_US
    await a.channel.emit([Draft(f"p{n}", "tokens", "s", 1, at) for n in range(start, stop)])
    await homes.exchange(a, b)


def entries_of(folder: Path) -> list[bytes]:
    """Every entry that the folder's checkpoint counts."""
    size = parse_head(parse_note((folder / "checkpoint").read_bytes()).text).size
    found: list[bytes] = []
    for start in range(0, size, 256):
        path = tile_path("entries", start // 256, min(size - start, 256))
        rest = (folder / path).read_bytes()
        while rest:
            length = 2 + int.from_bytes(rest[:2], "big")
            found.append(rest[2:length])
            rest = rest[length:]
    return found


def test_numbers_are_cut_in_threes() -> None:
    assert tile_path("0", 1234067) == "tile/0/x001/x234/067"
    assert tile_path("entries", 7, 12) == "tile/entries/007.p/12"
    assert tile_path("3", 1000) == "tile/3/x001/000"


@pytest.mark.skipif(gotools.MISSING, reason=gotools.REASON)
async def test_go_reads_every_entry_at_each_size(tmp_path: Path) -> None:
    program = gotools.build(tmp_path)
    folder = tmp_path / "tiles"
    async with homes.founded(tmp_path) as (a, b):
        keys = {
            "Folder": str(folder),
            "Log": str(a.channel.own.keyring.log_vkeys("provider")[0]),
            "Cosigner": str(a.channel.own.keyring.cosigner_vkeys("consumer")[0]),
        }
        sizes = (1, 2, 255, 256, 257, 600, 1100)
        for before, size in zip((1, *sizes), sizes, strict=False):
            if size > before:
                await grow(a, b, before, size)
            assert publish(a.channel.own, folder).size == size
            assert gotools.ask(program, Tiled=[keys])["Tiled"] == [str(size)]
        assert publish(a.channel.own, folder).files == 0
        first = folder / tile_path("0", 0)
        first.write_bytes(first.read_bytes()[::-1])
        assert gotools.ask(program, Tiled=[keys])["Tiled"] != ["1100"]


async def test_entries_are_leaves_and_what_is_full_stays(tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    async with homes.founded(tmp_path) as (a, b):
        await grow(a, b, 1, 300)
        publish(a.channel.own, folder)
        full = folder / tile_path("0", 0)
        before = full.stat().st_mtime_ns
        await grow(a, b, 300, 700)
        publish(a.channel.own, folder)
        head = parse_head(parse_note((folder / "checkpoint").read_bytes()).text)
        leaves = [leaf_hash(entry) for entry in entries_of(folder)]
        assert (len(leaves), root_of(leaves)) == (700, head.root)
        assert full.stat().st_mtime_ns == before
        assert not (folder / "tile/0/001.p").exists()  # the full one is there
        assert (folder / "tile/0/002.p/188").exists()
        roots = (folder / "tile/1/000.p/2").read_bytes()
        assert roots == root_of(leaves[:256]) + root_of(leaves[256:512])


async def test_no_folder_of_something_else_is_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    async with homes.founded(tmp_path) as (a, _):
        own, theirs = a.channel.own, a.channel.peer
        publish(own, folder)
        with pytest.raises(InputError, match="holds the log acme"):
            publish(theirs, folder)
        checkpoint = (folder / "checkpoint").read_text()
        other = base64.b64encode(bytes(32)).decode()
        rows = checkpoint.split("\n")
        (folder / "checkpoint").write_text("\n".join([*rows[:2], other, *rows[3:]]))
        with pytest.raises(InputError, match="another history"):
            publish(own, folder)
        (folder / "checkpoint").write_text("hello")
        with pytest.raises(InputError, match="is no checkpoint"):
            publish(own, folder)
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "letters.txt").write_text("dear")
        with pytest.raises(InputError, match="other files"):
            publish(own, mine)
        assert [path.name for path in mine.iterdir()] == ["letters.txt"]


def test_an_entry_that_the_layout_cannot_hold_is_named() -> None:
    with pytest.raises(InputError, match="record 7 has 65504 bytes"):
        _bundle(7, [bytes(32)], [bytes(65504)])
    assert len(_bundle(7, [bytes(32)], [bytes(65503)])) == 2 + 65535
