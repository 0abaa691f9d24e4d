"""The command line's requests in the form in which they mostly come, answered by themselves.

`POST /rpc/METHOD` with nothing in its head but a host, a type and a length is taken off its
connection before the general server looks at it: for a delta emitted alone, going through that
takes longer than all that the node does for it. What has any other form, or begins in the middle
of something, is the general server's.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tallystick.node.rpc import BODY_BYTES_MAX, MEDIA_TYPE, PATH

# A method and a request's body to the status and body of the answer.
Answer = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]

# As one `send` has it: whoever sends the head in pieces is none of our own.
_HEAD = re.compile(
    rb"POST %s([a-z_]{1,64}) HTTP/1\.1\r\n"
    rb"((?:(?i:host|content-type|content-length): *[!-~]+\r\n){1,4})\r\n" % PATH.encode()
)
_LENGTH = re.compile(rb"(?i)content-length: *([0-9]{1,9})\r\n")
_REASONS = {200: b"OK", 500: b"Internal Server Error"}


class Request(NamedTuple):
    """A request, so far as it has arrived: where its body begins, and ends once all is there."""

    method: str
    start: int
    stop: int


def plain_request(data: bytes) -> Request | None:
    """The request that these bytes begin with; None if it is not of the plain form."""
    head = _HEAD.match(data)
    if head is None:
        return None
    lengths = _LENGTH.findall(head[2])
    if len(lengths) != 1 or int(lengths[0]) > BODY_BYTES_MAX:
        return None
    return Request(head[1].decode(), head.end(), head.end() + int(lengths[0]))


def plain_answer(status: int, body: bytes) -> bytes:
    """An answer as it is sent."""
    head = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
    return head % (status, _REASONS[status], MEDIA_TYPE.encode(), len(body)) + body
