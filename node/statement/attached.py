"""The files inside a statement, found again in the PDF or the page that it is.

No general reader of PDF: what is taken is the form in which ours are written, one uncovered object
for each file. A PDF that another tool saved anew does not have it, and its reader then saves the
attachment by hand. What is found is only as good as the checks that follow.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import dataclass

from tallystick.node.statement.making import ATTACHED_BYTES_MAX
from tallystick.node.statement.wording import DISPUTES_FILE
from tallystick.protocol.errors import FormatError

PDF_START = b"%PDF-"
HTML_START = b"<!doctype html>"
FILE_BYTES_MAX = 3 * ATTACHED_BYTES_MAX

_FILE = re.compile(
    rb"/Type/Filespec/F\(([^()\\]{1,200})\)/UF\([^()\\]{1,200}\)/EF<</F (\d{1,9}) 0 R/UF"
)
_STREAM = (
    rb"\n%d 0 obj\n<</Length (\d{1,10})/Type/EmbeddedFile(/Filter/FlateDecode)?"
    rb"/Subtype/[\w#]{1,40}/Params<<[^<>]{1,200}>>>>\r?\nstream\r?\n"
)
_CREATOR = re.compile(rb"/Keywords\s*\(([^()\\]{1,200})\)")
_LINK = re.compile(
    rb'<a download="([\w.+-]{1,200})" href="data:application/(?:zip|json);base64,([\w+/=]*)">'
)
_GENERATOR = re.compile(rb'<meta name="generator" content="([^"<>]{1,200})">')


@dataclass(frozen=True, slots=True)
class Found:
    """What is inside a statement: the bundle, what is said of disputes, and who made it."""

    name: str
    bundle: bytes
    disputes: bytes | None
    maker: str


def is_statement(start: bytes) -> bool:
    """Whether a file that begins so is a PDF or a page."""
    return start.startswith((PDF_START, HTML_START))


def find_attached(data: bytes) -> Found:
    """The files inside a statement; `FormatError` unless there is exactly one bundle."""
    if len(data) > FILE_BYTES_MAX:
        raise FormatError(f"the file is larger than {FILE_BYTES_MAX >> 20} MiB")
    if data.startswith(PDF_START):
        files, maker = _of_pdf(data), _CREATOR.search(data)
    else:
        files, maker = _of_page(data), _GENERATOR.search(data)
    disputes = [content for name, content in files if name == DISPUTES_FILE]
    bundles = [(name, content) for name, content in files if name.endswith(".tally")]
    if not bundles:
        raise FormatError(
            "no bundle is found inside",
            "A draft has none. If your reader lists an attachment that ends in .tally, save it and"
            " check that",
        )
    if len(bundles) != 1 or len(disputes) > 1 or len(files) != len(bundles) + len(disputes):
        raise FormatError(
            f"{len(files)} files are found inside, and not one bundle alone",
            "Save the attachment that ends in .tally, and check that",
        )
    return Found(
        bundles[0][0],
        bundles[0][1],
        disputes[0] if disputes else None,
        maker[1].decode("utf-8", "replace") if maker else "",
    )


def _of_pdf(data: bytes) -> list[tuple[str, bytes]]:
    files = []
    for match in _FILE.finditer(data):
        name, number = match[1].decode("utf-8", "replace"), int(match[2])
        streams = list(re.finditer(_STREAM % number, data))
        if len(streams) != 1:
            raise FormatError(f"{name} cannot be found in the PDF as a statement holds it")
        start, length = streams[0].end(), int(streams[0][1])
        content = data[start : start + length]
        files.append((name, _inflated(content, name) if streams[0][2] else content))
    return files


def _inflated(data: bytes, name: str) -> bytes:
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(data, ATTACHED_BYTES_MAX + 1)
    except zlib.error as error:
        raise FormatError(f"{name} inside the PDF is damaged: {error}") from None
    if len(content) > ATTACHED_BYTES_MAX or not reader.eof:
        raise FormatError(f"{name} inside the PDF is cut off or too large")
    return content


def _of_page(data: bytes) -> list[tuple[str, bytes]]:
    files = []
    for match in _LINK.finditer(data):
        try:
            files.append((match[1].decode(), base64.b64decode(match[2], validate=True)))
        except (binascii.Error, UnicodeDecodeError):
            raise FormatError("a file inside the page is not in base64") from None
    return files
