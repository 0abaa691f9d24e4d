"""A UBL 2.1 invoice or credit note as bytes: where a document reference goes, and what is there.

Nothing is parsed into a tree and written again. A streaming parser finds the places, and the new
element is put between the bytes that were there, so the rest of the file stays as it is.
Files with a document type (the door for entity bombs), of other vocabularies, or signed inside
are refused.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from tallystick.protocol.errors import InputError

DOCUMENT_BYTES_MAX = 256 << 20
DEPTH_MAX = 64
PERIODS_MAX = 16  # of an invoice that are looked at

_UBL = "urn:oasis:names:specification:ubl:schema:xsd:"
CAC, CBC = f"{_UBL}CommonAggregateComponents-2", f"{_UBL}CommonBasicComponents-2"
_XML_SIGNATURE = "http://www.w3.org/2000/09/xmldsig#"
_REFERENCE = "AdditionalDocumentReference"

# What may follow the references in each kind's sequence; the supplier is always there.
_AFTER = {
    "Invoice": ("ProjectReference", "Signature", "AccountingSupplierParty"),
    "CreditNote": (
        "StatementDocumentReference",
        "OriginatorDocumentReference",
        "Signature",
        "AccountingSupplierParty",
    ),
}
# Encodings in which the bytes of ASCII stand for themselves, as what is put in does.
_ENCODINGS = ("utf-8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252")


@dataclass(frozen=True, slots=True)
class Reference:
    """A document reference of the invoice: its id, its place in the bytes, and the file in it."""

    id: str
    start: int
    end: int
    mime_type: str
    content: str  # base64

    def decoded(self) -> bytes:
        """The attached file; `InputError` if it is not in base64."""
        try:
            return base64.b64decode("".join(self.content.split()), validate=True)
        except (binascii.Error, ValueError):
            raise InputError(f"what {self.id} attaches is not in base64") from None


@dataclass(slots=True)
class Document:
    """What is found in an invoice or a credit note."""

    kind: str
    data: bytes
    references: list[Reference] = field(default_factory=list)
    periods: list[tuple[str, str]] = field(default_factory=list)  # first day, last day
    supplier: str = ""
    customer: str = ""
    place: int = -1  # of a new reference


def read_document(data: bytes) -> Document:
    """Look through a file; `InputError` if a proof cannot be put into it, with what to do."""
    if len(data) > DOCUMENT_BYTES_MAX:
        raise InputError(f"the invoice is larger than {DOCUMENT_BYTES_MAX >> 20} MiB")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        raise InputError("the invoice is in UTF-16 or UTF-32", "Save it as UTF-8")
    reader = _Reader(data)
    try:
        reader.run()
    except expat.ExpatError as error:
        raise InputError(
            f"the invoice is not well-formed XML: {expat.ErrorString(error.code)} in line"
            f" {error.lineno}"
        ) from None
    except (UnicodeError, LookupError) as error:
        raise InputError(
            f"the invoice's encoding does not hold: {error}", "Save it as UTF-8"
        ) from None
    document = reader.document
    if document is None or document.place < 0:
        raise InputError(
            "the invoice names no supplier, so it is not complete",
            "Attach the proof to a finished UBL 2.1 invoice or credit note",
        )
    return document


def with_reference(
    document: Document, id_: str, description: str, name: str, mime_type: str, content: bytes
) -> bytes:
    """The document with a file attached; a reference of the same id gives way to the new one."""
    data = document.data
    before = [one for one in document.references if one.id == id_]
    for one in reversed(before[1:]):
        data = data[: one.start] + data[one.end :]
    place = before[0].start if before else document.place
    rest = before[0].end if before else place
    line, indent, step = _spacing(data, place)
    made = _element(id_, description, name, mime_type, content, line + indent, step)
    between = b"" if before else (line + indent).encode()
    return data[:place] + made + between + data[rest:]


def _spacing(data: bytes, place: int) -> tuple[str, str, str]:
    """How lines end, how deep the one at a place is indented, and what one step more is; empty if
    the element does not begin its line.
    """
    start = data.rfind(b"\n", 0, place) + 1
    indent = data[start:place]
    if not start or indent.strip(b" \t"):
        return "", "", ""
    line = "\r\n" if data[start - 2 : start] == b"\r\n" else "\n"
    return line, indent.decode("ascii"), "\t" if b"\t" in indent else "  "


def _element(
    id_: str, description: str, name: str, mime_type: str, content: bytes, line: str, step: str
) -> bytes:
    inner, deeper = (line + step, line + step + step) if line else ("", "")
    encoded = base64.b64encode(content).decode()
    text = (
        f'<cac:{_REFERENCE} xmlns:cac="{CAC}" xmlns:cbc="{CBC}">'
        f"{inner}<cbc:ID>{escape(id_)}</cbc:ID>"
        f"{inner}<cbc:DocumentDescription>{escape(description)}</cbc:DocumentDescription>"
        f"{inner}<cac:Attachment>"
        f"{deeper}<cbc:EmbeddedDocumentBinaryObject mimeCode={quoteattr(mime_type)}"
        f" filename={quoteattr(name)}>{encoded}</cbc:EmbeddedDocumentBinaryObject>"
        f"{inner}</cac:Attachment>"
        f"{line}</cac:{_REFERENCE}>"
    )
    return text.encode("ascii", "xmlcharrefreplace")


class _Reader:
    """One pass over the document."""

    def __init__(self, data: bytes) -> None:
        self.document: Document | None = None
        self._data = data
        self._path: list[str] = []
        self._text: list[str] = []
        self._reference: dict[str, str] = {}
        self._start = 0
        self._period: dict[str, str] = {}
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._open
        parser.EndElementHandler = self._close
        parser.CharacterDataHandler = self._text.append

    def run(self) -> None:
        """Read it all."""
        self._parser.Parse(self._data, True)

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise InputError(f"the invoice is in the encoding {encoding}", "Save it as UTF-8")

    def _doctype(self, *_: object) -> NoReturn:
        raise InputError(
            "the invoice has a document type declaration (<!DOCTYPE …>), which no UBL invoice needs"
            " and which can hide what it says",
            "Take it out, or have the invoice written anew",
        )

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        self._text.clear()
        space, _, local = name.rpartition(" ")
        if not self._path:
            self._begin(space, local)
        if space == _XML_SIGNATURE:
            raise InputError(
                "the invoice carries an XML signature, which any change would break",
                "Attach the proof first, then sign",
            )
        self._path.append(f"{space} {local}")
        if len(self._path) > DEPTH_MAX:
            raise InputError(f"the invoice nests elements more than {DEPTH_MAX} deep")
        document = self.document
        assert document is not None, "the root begins it"
        if len(self._path) != 2 or space != CAC:
            self._note_attributes(attributes)
            return
        index = self._parser.CurrentByteIndex
        if local in _AFTER[document.kind] and document.place < 0:
            document.place = index
        if local == _REFERENCE:
            self._start, self._reference = index, {}
        elif local == "InvoicePeriod":
            self._period = {}

    def _begin(self, space: str, local: str) -> None:
        if local not in _AFTER or space != f"{_UBL}{local}-2":
            raise InputError(
                f"the file is no UBL 2.1 invoice: its root is {local!r} of"
                f" {space or 'no namespace'!r}",
                "A proof goes into an Invoice or a CreditNote; for a PDF, send the statement beside"
                " it",
            )
        self.document = Document(local, self._data)

    def _note_attributes(self, attributes: dict[str, str]) -> None:
        if self._path[-1] == f"{CBC} EmbeddedDocumentBinaryObject" and len(self._path) == 4:
            self._reference["mime"] = attributes.get("mimeCode", "")

    def _close(self, name: str) -> None:
        text = "".join(self._text)
        self._text.clear()
        path = [part.rpartition(" ")[2] for part in self._path[1:]]
        self._path.pop()
        document = self.document
        assert document is not None, "the root begins it"
        match path:
            case ["AdditionalDocumentReference", "ID"]:
                self._reference["id"] = text.strip()
            case ["AdditionalDocumentReference", "Attachment", "EmbeddedDocumentBinaryObject"]:
                self._reference["content"] = text
            case ["AdditionalDocumentReference"]:
                self._end_reference(document)
            case ["InvoicePeriod", "StartDate" | "EndDate" as which]:
                self._period[which] = text.strip()[:10]
            case ["InvoicePeriod"] if len(document.periods) < PERIODS_MAX:
                document.periods.append(
                    (self._period.get("StartDate", ""), self._period.get("EndDate", ""))
                )
            case ["AccountingSupplierParty", "Party", _, "Name" | "RegistrationName"]:
                document.supplier = text.strip() or document.supplier
            case ["AccountingCustomerParty", "Party", _, "Name" | "RegistrationName"]:
                document.customer = text.strip() or document.customer
            case _:
                pass

    def _end_reference(self, document: Document) -> None:
        # The parser stands at the end tag's beginning; behind the tag if it is both in one.
        end = self._parser.CurrentByteIndex
        if self._data.startswith(b"</", end):
            end = self._data.index(b">", end) + 1
        found = self._reference
        document.references.append(
            Reference(
                found.get("id", ""),
                self._start,
                end,
                found.get("mime", ""),
                found.get("content", ""),
            )
        )
