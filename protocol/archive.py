"""The container of a bundle: a ZIP that can be written in exactly one way.

It owns the ZIP headers and nothing about what the members mean. Members are stored, not
compressed, in a given order, with fixed times and attributes; a *large* member (records) always
carries the 64-bit form of its sizes, so no header depends on what is not known before writing.
The reader takes the few numbers that may vary, the CRC and the size, and requires every other byte
to be the one that the writer would have written. So there are no names, comments, extra fields,
gaps, doubled or compressed members to be careful about: none of them can be expressed.
Source: PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from tallystick.protocol.errors import FormatError

CHUNK_BYTES = 1 << 20

_MIDNIGHT, _FIRST_OF_1980 = 0, 0x0021  # the earliest time that a ZIP can say
_UNIX = 3 << 8
_REGULAR_FILE = 0o100644 << 16
_IN_EXTRA = 0xFFFFFFFF  # "the number is in the 64-bit extra field"
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_64 = struct.Struct("<4sIQI")


@dataclass(frozen=True, slots=True)
class MemberName:
    """A member that an archive may have; `large` ones may pass 4 GiB."""

    name: str
    large: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A member where it lies: `header_offset`, then `data_offset` with `size` bytes."""

    name: str
    large: bool
    crc: int
    size: int
    header_offset: int

    @property
    def data_offset(self) -> int:
        """Where the member's bytes begin."""
        return self.header_offset + _header_size(self.name, self.large)


def _version(large: bool) -> int:
    return 45 if large else 20


def _header_size(name: str, large: bool) -> int:
    return _LOCAL.size + len(name) + (20 if large else 0)


def _local_header(name: str, large: bool, crc: int, size: int) -> bytes:
    extra = struct.pack("<HHQQ", 1, 16, size, size) if large else b""
    shown = _IN_EXTRA if large else size
    fixed = _LOCAL.pack(
        b"PK\x03\x04",
        _version(large),
        0,
        0,
        _MIDNIGHT,
        _FIRST_OF_1980,
        crc,
        shown,
        shown,
        len(name),
        len(extra),
    )
    return fixed + name.encode() + extra


def _entry(member: Member) -> bytes:
    large, size, offset = member.large, member.size, member.header_offset
    extra = struct.pack("<HHQQQ", 1, 24, size, size, offset) if large else b""
    fixed = _ENTRY.pack(
        b"PK\x01\x02",
        _UNIX | _version(large),
        _version(large),
        0,
        0,
        _MIDNIGHT,
        _FIRST_OF_1980,
        member.crc,
        _IN_EXTRA if large else size,
        _IN_EXTRA if large else size,
        len(member.name),
        len(extra),
        0,
        0,
        0,
        _REGULAR_FILE,
        _IN_EXTRA if large else offset,
    )
    return fixed + member.name.encode() + extra


def _directory(members: list[Member], offset: int) -> bytes:
    """The central directory and what ends the archive, for a directory at this offset."""
    entries = b"".join(_entry(member) for member in members)
    count = len(members)
    if not any(member.large for member in members):
        return entries + _END.pack(b"PK\x05\x06", 0, 0, count, count, len(entries), offset, 0)
    end_64 = _END_64.pack(
        b"PK\x06\x06",
        _END_64.size - 12,
        _UNIX | 45,
        45,
        0,
        0,
        count,
        count,
        len(entries),
        offset,
    )
    locator = _LOCATOR_64.pack(b"PK\x06\x07", 0, offset + len(entries), 1)
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, _IN_EXTRA, _IN_EXTRA, 0)
    return entries + end_64 + locator + end


def write_archive(out: BinaryIO, members: Iterable[tuple[MemberName, Iterable[bytes]]]) -> None:
    """Write an archive of these members, each given in chunks, to a seekable empty file."""
    written: list[Member] = []
    offset = 0
    for member, chunks in members:
        out.write(_local_header(member.name, member.large, 0, 0))
        crc = size = 0
        for chunk in chunks:
            out.write(chunk)
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
        if size >= _IN_EXTRA and not member.large:
            raise FormatError(f"{member.name} of {size} bytes is too large for a bundle")
        done = Member(member.name, member.large, crc, size, offset)
        # A member's size is known only after it was streamed, so its header is written again.
        out.seek(offset)
        out.write(_local_header(done.name, done.large, done.crc, done.size))
        offset = done.data_offset + size
        out.seek(offset)
        written.append(done)
    out.write(_directory(written, offset))


def read_archive(
    file: BinaryIO,
    always: tuple[MemberName, ...],
    groups: tuple[tuple[MemberName, ...], ...],
    size_max: int,
) -> list[Member]:
    """The members of an archive that has all of `always`, then of each group all or none.

    Raises `FormatError` unless every byte is what `write_archive` would have written. A member
    that is not large may have at most `size_max` bytes.
    """
    file.seek(0)
    members: list[Member] = []
    offset = 0
    for group in (always, *groups):
        if group is not always and not _begins(file, group, offset, last=group is groups[-1]):
            continue
        for expected in group:
            member = _read_member(file, expected, offset, size_max)
            members.append(member)
            offset = member.data_offset + member.size
    directory = _directory(members, offset)
    found = file.read(len(directory) + 1)
    if found != directory:
        raise FormatError(
            f"the archive's directory at byte {offset} is not the one that belongs to its members",
            "The file was changed, cut off or written by another program",
        )
    return members


def _begins(file: BinaryIO, group: tuple[MemberName, ...], offset: int, *, last: bool) -> bool:
    """Whether a header of the group's first member follows; for the last group, any header."""
    name = group[0].name.encode()
    header = file.read(_LOCAL.size + len(name))
    file.seek(offset)
    return header[:4] == b"PK\x03\x04" and (last or header[_LOCAL.size :] == name)


def _read_member(file: BinaryIO, expected: MemberName, offset: int, size_max: int) -> Member:
    name, large = expected.name, expected.large
    header = file.read(_header_size(name, large))
    if len(header) < _header_size(name, large):
        raise FormatError(f"the archive ends at the header of {name}, byte {offset}")
    crc, size = struct.unpack_from("<II", header, 14)
    if large:
        (size,) = struct.unpack_from("<Q", header, _LOCAL.size + len(name) + 4)
    if header != _local_header(name, large, crc, size):
        raise FormatError(
            f"at byte {offset} there is no header of the member {name} as a bundle has it",
            "The file is not a bundle, was changed, or was written by another program",
        )
    if not large and size > size_max:
        raise FormatError(f"{name} has {size} bytes; at most {size_max} are allowed")
    found, left = 0, size
    while left:
        chunk = file.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise FormatError(f"the archive ends within {name}, {left} bytes before its end")
        found = zlib.crc32(chunk, found)
        left -= len(chunk)
    if found != crc:
        raise FormatError(
            f"the bytes of {name} do not have the CRC that its header says",
            "The file was changed or damaged",
        )
    return Member(name, large, crc, size, offset)
