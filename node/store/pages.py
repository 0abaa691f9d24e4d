"""LMDB's file read page by page, without LMDB: whether every page is what its parent says it is.

LMDB trusts its file. A flipped bit in a page number sends it out of the map or into a loop, so the
structure is examined here, in plain Python, before LMDB opens a file that may be damaged. The
format is that of LMDB 0.9 (`mdb.c`) on a little-endian machine with 64 bits, as this store uses it:
named tables in the main database, no duplicates.

What a file holds beyond that is *spare*: gaps in pages, the ends of overflow runs, the older meta
page's trees. LMDB does not read them, so a flipped byte there changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct

from tallystick.node.store.metas import (
    HEADER_SIZE,
    META_PAGES,
    META_SIZE,
    Fault,
    Meta,
    Tree,
    read_tree,
)

NODE_SIZE = 8
DEPTH_MAX = 32
KEY_BYTES_MAX = 511
UNWRITTEN_MAX = 65536  # pages
FAULTS_MAX = 100  # told one by one; a file with more is no better known by more
NO_PAGE = 2**64 - 1

_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # a page's kind
_BIG, _TABLE = 1, 2  # a node's: its value is in an overflow run; it is a table's record
_INTEGER_KEYS = 8
_header = Struct("<QHHHH").unpack_from
_run_header = Struct("<QHHI").unpack_from
_node = Struct("<HHHH").unpack_from
_number = Struct("<Q").unpack_from

Visit = Callable[[str, bytes, memoryview], None]


@dataclass
class Walk:
    """What a walk through a file found. `spare` are ranges of bytes that LMDB does not read."""

    faults: list[str] = field(default_factory=list)
    spare: list[tuple[int, int]] = field(default_factory=list)
    entries: dict[str, int] = field(default_factory=dict)  # of each table, as counted
    pages: int = 0
    free_pages: int = 0

    def fault(self, text: str) -> None:
        """Note what does not fit; only so many are kept."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)


def walk(data: memoryview, metas: list[Meta], visit: Visit | None = None) -> Walk:
    """Examine every page that the newest of `metas` reaches.

    `visit(table, key, stored value)` is called for each item of a sound leaf, in order in a table.
    """
    return _Walker(data, metas[0], visit).run(metas[1:])


class _Walker:
    """One walk; `_seen` marks each page that something names, so that nothing is read twice."""

    def __init__(self, data: memoryview, meta: Meta, visit: Visit | None) -> None:
        self._data = data
        self._meta = meta
        self._size = meta.page_size
        self._visit = visit
        self._found = Walk()
        self._held = len(data) // self._size
        # Pages at the end may be free before they were ever written, but not so many.
        self._last = min(meta.last_page, 2 * self._held + UNWRITTEN_MAX)
        self._seen = bytearray(self._last + 1)
        self._counts = [0, 0, 0, 0]  # branches, leaves, overflow pages, entries of this tree
        self._tables: list[tuple[str, Tree]] = []
        self._table = ""
        if meta.last_page > self._last:
            self._found.fault(
                f"the file has {self._held} pages, but says that its last is {meta.last_page}"
            )

    def run(self, older: list[Meta]) -> Walk:
        meta, found = self._meta, self._found
        for other in (meta, *older):
            self._meta_spare(other, newest=other is meta)
        for page in range(min(META_PAGES, len(self._seen))):
            self._seen[page] = 1
        if (meta.free.flags, meta.main.pad, meta.main.flags) != (_INTEGER_KEYS, 0, 0):
            found.fault(f"meta page {meta.page}: its flags are not what this store uses")
        self._tree("the free list", meta.free, self._free_leaf)
        self._tree("the list of tables", meta.main, self._main_leaf)
        for name, tree in self._tables:
            if (tree.pad, tree.flags) != (0, 0):
                found.fault(f"table {name}: its flags are not what this store uses")
            self._table = name
            self._tree(f"table {name}", tree, self._table_leaf)
            found.entries[name] = self._counts[3]
        self._transactions(older)
        unnamed = self._seen.count(0)
        if unnamed and not found.faults:
            first = self._seen.index(0)
            found.fault(f"{unnamed} pages are neither used nor free, page {first} is the first")
        found.pages = len(self._seen)
        return found

    def _meta_spare(self, meta: Meta, *, newest: bool) -> None:
        """Of a meta page LMDB reads its kind, magic, version, page size and transaction; of the
        newest also what the trees are. The map's size and address are the opener's own here.
        """
        at, spare = meta.page * self._size, self._found.spare
        body = at + HEADER_SIZE
        spare += [(at + 8, at + 10), (at + 12, at + 16), (body + 8, body + 24)]
        if not newest:
            spare.append((body + 28, body + 128))
        spare.append((body + META_SIZE, at + self._size))

    def _transactions(self, older: list[Meta]) -> None:
        """Each transaction notes the pages it freed under its own number: so a meta page whose
        number is wrong, and would bring back an older state, does not fit its free list.
        """
        for meta in (self._meta, *older):
            try:
                newest = self._newest_freed(meta)
            except Fault as fault:
                self._found.fault(f"meta page {meta.page}: {fault}")
                continue
            if newest != meta.txn_id and not (newest == 0 and meta.txn_id <= 1):
                self._found.fault(
                    f"meta page {meta.page} says that it is of transaction {meta.txn_id}, but its"
                    f" free list is of {newest}"
                )

    def _newest_freed(self, meta: Meta) -> int:
        page, key = meta.free.root, 0
        for level in range(1, min(meta.free.depth, DEPTH_MAX) + 1):
            at, count = self._page(page, _LEAF if level == meta.free.depth else _BRANCH)
            node = at + self._pointers(at, count)[-1]
            low, high, flags, key_size = _node(self._data, node)
            page = low | high << 16 | flags << 32
            if level == meta.free.depth:
                if key_size != 8 or node + NODE_SIZE + 8 > len(self._data):
                    raise Fault("the free list's newest entry has no transaction's number")
                key = _number(self._data, node + NODE_SIZE)[0]
        return key

    # Trees

    def _tree(self, name: str, tree: Tree, leaf: Callable[[int, list[int]], None]) -> None:
        self._counts = [0, 0, 0, 0]
        found = self._found
        if tree.root == NO_PAGE:
            empty = Tree(tree.pad, tree.flags, 0, 0, 0, 0, 0, NO_PAGE)
            if tree != empty:
                found.fault(f"{name}: it has no pages, but says that it has entries")
            return
        if not 1 <= tree.depth <= DEPTH_MAX:
            found.fault(f"{name}: it says that it is {tree.depth} pages deep")
            return
        self._name, self._leaf, self._depth = name, leaf, tree.depth
        before = len(found.faults)
        self._descend(tree.root, 1, b"", None)
        said = [tree.branches, tree.leaves, tree.overflows, tree.entries]
        if said != self._counts and len(found.faults) == before:
            found.fault(
                f"{name}: it says that it has {said[3]} entries on {sum(said[:3])} pages, but has"
                f" {self._counts[3]} on {sum(self._counts[:3])}"
            )

    def _descend(self, page: int, level: int, low: bytes, high: bytes | None) -> None:
        """A page and all below it; its keys must be from `low` up to before `high`."""
        try:
            self._claim(page)
            kind = _LEAF if level == self._depth else _BRANCH
            at, count = self._page(page, kind)
            nodes = self._nodes(at, count, kind)
            keys = self._keys(nodes, kind, low, high)
            self._counts[kind - 1] += 1
            if kind == _LEAF:
                self._counts[3] += count
                self._leaf(page, nodes)
                return
        except Fault as fault:
            self._found.fault(f"page {page} ({self._name}): {fault}")
            return
        for place, node in enumerate(nodes):
            number, middle, flags, _ = _node(self._data, node)
            child = number | middle << 16 | flags << 32
            below = keys[place] if place else low
            above = keys[place + 1] if place + 1 < count else high
            self._descend(child, level + 1, below, above)

    def _claim(self, page: int) -> None:
        if not META_PAGES <= page <= self._last:
            raise Fault("the file has no such page")
        if self._seen[page]:
            raise Fault("it is named twice, or named and free")
        self._seen[page] = 1

    def _page(self, page: int, kind: int) -> tuple[int, int]:
        """Where a page begins, and how many nodes it has."""
        at = page * self._size
        if not META_PAGES <= page < self._held:
            raise Fault("the file has no such page")
        number, _, flags, lower, upper = _header(self._data, at)
        if number != page:
            raise Fault(f"it says that it is page {number}")
        if flags != kind:
            raise Fault(f"it is of kind {flags}, not {kind}")
        if not HEADER_SIZE < lower <= upper <= self._size or lower % 2:
            raise Fault("its bounds are wrong")
        return at, (lower - HEADER_SIZE) // 2

    def _pointers(self, at: int, count: int) -> tuple[int, ...]:
        pointers = Struct(f"<{count}H").unpack_from(self._data, at + HEADER_SIZE)
        if max(pointers) + NODE_SIZE > self._size or min(pointers) < HEADER_SIZE:
            raise Fault("a node is outside of it")
        return pointers

    def _nodes(self, at: int, count: int, kind: int) -> list[int]:
        """Where the nodes of a page are, which fill its end without a gap."""
        data, spare = self._data, []
        pointers = self._pointers(at, count)
        upper = _header(data, at)[4]
        stop = upper
        for pointer in sorted(pointers):
            if pointer != stop:
                raise Fault("its nodes leave a gap or overlap")
            low, high, flags, key_size = _node(data, at + pointer)
            size = NODE_SIZE + key_size
            if kind == _LEAF:
                size += 8 if flags & _BIG else low | high << 16
            stop = pointer + size + size % 2
            if size % 2:
                spare.append((at + stop - 1, at + stop))
        if stop != self._size:
            raise Fault("its nodes do not end where it ends")
        self._found.spare += spare
        self._found.spare.append((at + 8, at + 10))
        self._found.spare.append((at + HEADER_SIZE + 2 * count, at + upper))
        return [at + pointer for pointer in pointers]

    def _keys(self, nodes: list[int], kind: int, low: bytes, high: bytes | None) -> list[bytes]:
        data = self._data
        keys = []
        last: bytes | None = None
        for place, node in enumerate(nodes):
            size = _node(data, node)[3]
            key = bytes(data[node + NODE_SIZE : node + NODE_SIZE + size])
            keys.append(key)
            if kind == _BRANCH and place == 0:
                # The first key of a branch stands for everything before the second.
                self._found.spare.append((node + NODE_SIZE, node + NODE_SIZE + size))
                continue
            if not 1 <= size <= KEY_BYTES_MAX:
                raise Fault(f"a key has {size} bytes")
            order = self._order(key)
            after = last is None or self._order(last) < order
            if (
                not after
                or order < self._order(low)
                or (high is not None and order >= self._order(high))
            ):
                raise Fault(f"key {key.hex()} is not in its place")
            last = key
        return keys

    def _order(self, key: bytes) -> tuple[int, bytes]:
        """What keys sort by: the free list's are numbers, others are bytes."""
        if self._leaf != self._free_leaf:
            return 0, key
        return (int.from_bytes(key, "little"), b"") if len(key) in (0, 8) else (NO_PAGE, b"")

    # Leaves

    def _value(self, node: int, flags_allowed: tuple[int, ...]) -> tuple[bytes, memoryview]:
        data = self._data
        low, high, flags, key_size = _node(data, node)
        if flags not in flags_allowed:
            raise Fault(f"a node is of kind {flags}")
        at = node + NODE_SIZE
        key, size = bytes(data[at : at + key_size]), low | high << 16
        at += key_size
        if not flags & _BIG:
            return key, data[at : at + size]
        return key, self._run(_number(data, at)[0], size)

    def _run(self, page: int, size: int) -> memoryview:
        """The value in an overflow run that begins at a page."""
        self._claim(page)
        if page >= self._held:
            raise Fault("the file has no such page")
        at = page * self._size
        number, _, flags, count = _run_header(self._data, at)
        if number != page or flags != _OVERFLOW:
            raise Fault(f"page {page} does not begin an overflow run")
        if count * self._size < HEADER_SIZE + size or page + count > self._held:
            raise Fault(f"the overflow run at page {page} has {count} pages for {size} bytes")
        for further in range(page + 1, page + count):
            self._claim(further)
        self._counts[2] += count
        begin = at + HEADER_SIZE
        self._found.spare += [(at + 8, at + 10), (begin + size, at + count * self._size)]
        return self._data[begin : begin + size]

    def _table_leaf(self, page: int, nodes: list[int]) -> None:
        for node in nodes:
            try:
                key, value = self._value(node, (0, _BIG))
            except Fault as fault:
                self._found.fault(f"page {page} ({self._name}): {fault}")
                continue
            if self._visit is not None:
                self._visit(self._table, key, value)

    def _main_leaf(self, page: int, nodes: list[int]) -> None:
        for node in nodes:
            try:
                key, value = self._value(node, (_TABLE,))
                self._tables.append((key.decode("ascii", "replace"), read_tree(value)))
            except Fault as fault:
                self._found.fault(f"page {page} ({self._name}): {fault}")

    def _free_leaf(self, page: int, nodes: list[int]) -> None:
        for node in nodes:
            key, value = self._value(node, (0, _BIG))
            if len(key) != 8 or len(value) < 8 or len(value) % 8:
                raise Fault("an entry of the free list has a wrong size")
            count = _number(value)[0]
            if 8 * (count + 1) > len(value):
                raise Fault("an entry of the free list says that it is longer than it is")
            pages = Struct(f"<{count}Q").unpack_from(value, 8)
            for before, free in zip((NO_PAGE, *pages), pages, strict=False):
                if free >= before:
                    raise Fault("an entry of the free list is not in order")
                self._claim_free(free)
            self._found.free_pages += count

    def _claim_free(self, page: int) -> None:
        try:
            self._claim(page)
        except Fault as fault:
            raise Fault(f"free page {page}: {fault}") from None
        if page < self._held:
            self._found.spare.append((page * self._size, (page + 1) * self._size))
