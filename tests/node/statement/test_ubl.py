"""Where a reference goes in UBL, that the rest stays as it is, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ubl_files import KINDS, REFERENCES, rule_errors, schema_errors, tree, ubl

from tallystick.node.statement.ubl import read_document, with_reference
from tallystick.protocol.errors import InputError

CAC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2}"
CBC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"


def _put(data: bytes, content: bytes = b"%PDF-", id_: str = "tallystick:1") -> bytes:
    document = read_document(data)
    return with_reference(document, id_, 'proof <of> "ü" & so', "f.pdf", "application/pdf", content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beside", [False, True])
def test_what_comes_out_is_valid_and_the_rest_as_it_was(kind: str, beside: bool) -> None:
    data = ubl(kind, REFERENCES[kind] if beside else "")
    assert schema_errors(data) == []
    made = _put(data)
    assert schema_errors(made) == [] and rule_errors(made) == rule_errors(data)
    ours = next(
        one
        for one in tree(made).findall(f"{CAC}AdditionalDocumentReference")
        if one.findtext(f"{CBC}ID") == "tallystick:1"
    )
    assert ours.findtext(f"{CBC}DocumentDescription") == 'proof <of> "ü" & so'
    found = read_document(made)
    (one,) = [reference for reference in found.references if reference.id == "tallystick:1"]
    assert (one.mime_type, one.decoded()) == ("application/pdf", b"%PDF-")
    # Cut out with the line that it began, the file is what it was.
    start = made.rindex(b"\n", 0, one.start)
    assert made[:start] + made[one.end :] == data


@pytest.mark.parametrize("kind", KINDS)
def test_a_misplaced_reference_would_be_found(kind: str) -> None:
    data = ubl(kind)
    element = (
        b"<cac:AdditionalDocumentReference><cbc:ID>x</cbc:ID></cac:AdditionalDocumentReference>"
    )
    misplaced = data.replace(b"<cbc:BuyerReference>", element + b"<cbc:BuyerReference>")
    assert schema_errors(misplaced) != []


@pytest.mark.parametrize("kind", KINDS)
def test_twice_is_once_and_another_content_replaces(kind: str) -> None:
    once = _put(ubl(kind, REFERENCES[kind]))
    assert _put(once) == once
    other = _put(once, b"other")
    assert _put(other) == once
    both = _put(once, b"second", "tallystick:2")
    assert [one.id for one in read_document(both).references] == [
        "annex 3", "tallystick:1", "tallystick:2",
    ]  # fmt: skip
    assert schema_errors(both) == []
    doubled = once.replace(b"tallystick:1", b"tallystick:2")
    doubled = _put(doubled).replace(b"tallystick:2", b"tallystick:1")
    assert len(read_document(doubled).references) == 3
    assert [one.id for one in read_document(_put(doubled)).references].count("tallystick:1") == 1


def test_any_shape_of_the_file_is_kept() -> None:
    data = ubl()
    one_line = data.replace(b'"\n', b'" ').replace(b"'\n", b"' ")
    for shaped in (
        data.replace(b"\n", b"\r\n"),
        data.replace(b"  <", b"\t<"),
        b"".join(line.strip() for line in one_line.split(b"\n")),
        b"\xef\xbb\xbf" + data,
        data.replace(b"cac:", b"a:").replace(b"xmlns:cac", b"xmlns:a"),
        data.decode().replace("UTF-8", "ISO-8859-1").encode("latin-1"),
        data.decode().replace("UTF-8", "windows-1252").encode("cp1252"),
        data.replace(b"</Invoice>", b"</Invoice>\n<!-- end -->\n<?done?>\n"),
        data.partition(b"\n")[2],
    ):  # fmt: skip
        assert schema_errors(shaped) == []
        made = _put(shaped)
        assert schema_errors(made) == []
        (one,) = read_document(made).references
        between = len(made) - len(shaped) - (one.end - one.start)  # a new line's beginning
        assert made[: one.start] + made[one.end + between :] == shaped
        assert made[one.end : one.end + between].strip() == b""
    crlf = _put(data.replace(b"\n", b"\r\n"))
    assert crlf.count(b"\n") == crlf.count(b"\r\n")


def test_empty_and_odd_references_are_passed_by() -> None:
    odd = (
        "  <cac:AdditionalDocumentReference/>\n"
        "  <cac:AdditionalDocumentReference ><cbc:ID>a<!-- -->b</cbc:ID>"
        "</cac:AdditionalDocumentReference >\n"
    )
    made = _put(ubl("Invoice", odd))
    found = read_document(made).references
    assert [one.id for one in found] == ["", "ab", "tallystick:1"]
    assert made[found[0].start : found[0].end] == b"<cac:AdditionalDocumentReference/>"
    assert made[found[1].start : found[1].end].endswith(b"</cac:AdditionalDocumentReference >")


def test_who_and_when_is_read() -> None:
    found = read_document(ubl())
    assert (found.supplier, found.customer) == ("Acme GmbH", "Beta AG")
    assert found.periods == [("2026-10-01", "2026-10-31")]


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE Invoice [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>
<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2">&c;</Invoice>"""
OUTSIDE = b"""<!DOCTYPE Invoice [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2">&x;</Invoice>"""
SIGNATURE = b'<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/>'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not well-formed"),
        (b"%PDF-1.7", "not well-formed"),
        (BOMB, "document type"),
        (OUTSIDE, "document type"),
        (ubl()[:-20], "not well-formed"),
        (ubl().replace(b"K\xc3\xb6ln", b"K\xf6ln"), "not well-formed"),
        (ubl().replace(b"UTF-8", b"shift_jis"), "encoding shift_jis"),
        (ubl().decode().encode("utf-16"), "UTF-16"),
        (ubl().decode().encode("utf-16-be"), "UTF-16"),
        (ubl().decode().encode("utf-32"), "UTF-16 or UTF-32"),
        (ubl().replace(b"Invoice-2", b"Order-2"), "no UBL 2.1 invoice"),
        (b"<Invoice/>", "no namespace"),
        (b'<rsm:CrossIndustryInvoice xmlns:rsm="urn:x"/>', "CrossIndustryInvoice"),
        (ubl().replace(b"SupplierParty", b"OtherParty"), "no supplier"),
        (ubl().replace(b"<cac:PaymentTerms>", SIGNATURE + b"<cac:PaymentTerms>"), "signature"),
        (ubl().replace(b"</Invoice>", b"<x>" * 99 + b"</x>" * 99 + b"</Invoice>"), "deep"),
    ],
)  # fmt: skip
def test_what_cannot_take_a_proof_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_document(data)


@settings(max_examples=150)
@given(st.integers(0, len(ubl()) - 1), st.integers(1, 255))
def test_a_damaged_file_is_refused_or_read(place: int, flip: int) -> None:
    data = bytearray(ubl())
    data[place] ^= flip
    try:
        made = _put(bytes(data))
    except InputError:
        return
    assert [one.id for one in read_document(made).references] == ["tallystick:1"]
