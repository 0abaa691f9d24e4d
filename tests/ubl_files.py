"""A UBL invoice and credit note, and the OASIS schemas that a test holds them against."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

from lxml import etree

_NS = "urn:oasis:names:specification:ubl:schema:xsd:"

_PARTY = """\
  <cac:Accounting{role}Party>
    <cac:Party>
      <cbc:EndpointID schemeID="0088">{endpoint}</cbc:EndpointID>
      <cac:PostalAddress>
        <cbc:CityName>Köln</cbc:CityName>
        <cac:Country><cbc:IdentificationCode>DE</cbc:IdentificationCode></cac:Country>
      </cac:PostalAddress>
{tax}      <cac:PartyLegalEntity>
        <cbc:RegistrationName>{name}</cbc:RegistrationName>
      </cac:PartyLegalEntity>
    </cac:Party>
  </cac:Accounting{role}Party>
"""

_TAX = """\
      <cac:PartyTaxScheme>
        <cbc:CompanyID>DE123456789</cbc:CompanyID>
        <cac:TaxScheme><cbc:ID>VAT</cbc:ID></cac:TaxScheme>
      </cac:PartyTaxScheme>
"""

_TEXT = """\
<?xml version="1.0" encoding="UTF-8"?>
<{kind} xmlns="{ns}{kind}-2"
         xmlns:cac='{ns}CommonAggregateComponents-2'
         xmlns:cbc="{ns}CommonBasicComponents-2">
  <cbc:CustomizationID>urn:cen.eu:en16931:2017#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0</cbc:CustomizationID>
  <cbc:ProfileID>urn:fdc:peppol.eu:2017:poacc:billing:01:1.0</cbc:ProfileID>
  <cbc:ID>2026-1137</cbc:ID>
  <cbc:IssueDate>2026-12-04</cbc:IssueDate>
{due}  <cbc:{kind}TypeCode>{code}</cbc:{kind}TypeCode>
  <cbc:DocumentCurrencyCode>EUR</cbc:DocumentCurrencyCode>
  <cbc:BuyerReference>PO-7781</cbc:BuyerReference>
  <cac:InvoicePeriod>
    <cbc:StartDate>2026-10-01</cbc:StartDate>
    <cbc:EndDate>2026-10-31</cbc:EndDate>
  </cac:InvoicePeriod>
{references}  <!-- the supplier: "quoted" & kept -->
{supplier}{customer}  <cac:PaymentTerms><cbc:Note><![CDATA[30 days <net>]]></cbc:Note></cac:PaymentTerms>
  <cac:TaxTotal>
    <cbc:TaxAmount currencyID="EUR">1.90</cbc:TaxAmount>
    <cac:TaxSubtotal>
      <cbc:TaxableAmount currencyID="EUR">10.00</cbc:TaxableAmount>
      <cbc:TaxAmount currencyID="EUR">1.90</cbc:TaxAmount>
      <cac:TaxCategory>
        <cbc:ID>S</cbc:ID><cbc:Percent>19</cbc:Percent>
        <cac:TaxScheme><cbc:ID>VAT</cbc:ID></cac:TaxScheme>
      </cac:TaxCategory>
    </cac:TaxSubtotal>
  </cac:TaxTotal>
  <cac:LegalMonetaryTotal>
    <cbc:LineExtensionAmount currencyID="EUR">10.00</cbc:LineExtensionAmount>
    <cbc:TaxExclusiveAmount currencyID="EUR">10.00</cbc:TaxExclusiveAmount>
    <cbc:TaxInclusiveAmount currencyID="EUR">11.90</cbc:TaxInclusiveAmount>
    <cbc:PayableAmount currencyID="EUR">11.90</cbc:PayableAmount>
  </cac:LegalMonetaryTotal>
  <cac:{kind}Line>
    <cbc:ID>1</cbc:ID>
    <cbc:{quantity} unitCode="C62">100</cbc:{quantity}>
    <cbc:LineExtensionAmount currencyID="EUR">10.00</cbc:LineExtensionAmount>
    <cac:Item>
      <cbc:Name>Tokens</cbc:Name>
      <cac:ClassifiedTaxCategory>
        <cbc:ID>S</cbc:ID><cbc:Percent>19</cbc:Percent>
        <cac:TaxScheme><cbc:ID>VAT</cbc:ID></cac:TaxScheme>
      </cac:ClassifiedTaxCategory>
    </cac:Item>
    <cac:Price><cbc:PriceAmount currencyID="EUR">0.10</cbc:PriceAmount></cac:Price>
  </cac:{kind}Line>
</{kind}>
"""  # noqa: E501 - as an invoicing system writes it

# What may stand beside ours; in each kind's order.
REFERENCES = {
    "Invoice": """\
  <cac:ContractDocumentReference><cbc:ID>C-1</cbc:ID></cac:ContractDocumentReference>
  <cac:AdditionalDocumentReference>
    <cbc:ID>annex 3</cbc:ID>
  </cac:AdditionalDocumentReference>
  <cac:ProjectReference><cbc:ID>P-1</cbc:ID></cac:ProjectReference>
""",
    "CreditNote": """\
  <cac:ContractDocumentReference><cbc:ID>C-1</cbc:ID></cac:ContractDocumentReference>
  <cac:AdditionalDocumentReference>
    <cbc:ID>annex 3</cbc:ID>
  </cac:AdditionalDocumentReference>
  <cac:OriginatorDocumentReference><cbc:ID>O-1</cbc:ID></cac:OriginatorDocumentReference>
""",
}
KINDS = tuple(REFERENCES)


def ubl(kind: str = "Invoice", references: str = "") -> bytes:
    """An invoice or a credit note of October 2026 that Peppol's rules find nothing wrong with."""
    credit = kind == "CreditNote"
    return _TEXT.format(
        kind=kind,
        ns=_NS,
        due="" if credit else "  <cbc:DueDate>2027-01-03</cbc:DueDate>\n",
        code="381" if credit else "380",
        references=references,
        supplier=_PARTY.format(
            role="Supplier", endpoint="7300010000001", tax=_TAX, name="Acme GmbH"
        ),
        customer=_PARTY.format(role="Customer", endpoint="7300010000002", tax="", name="Beta AG"),
        quantity="CreditedQuantity" if credit else "InvoicedQuantity",
    ).encode()


def tree(data: bytes) -> etree._Element:
    """The document as lxml reads it, however large what it carries is."""
    return etree.fromstring(data, etree.XMLParser(huge_tree=True))


@cache
def _schema(kind: str) -> etree.XMLSchema:
    with as_file(files("peppol").joinpath("schema")) as folder:
        return etree.XMLSchema(etree.parse(str(folder / "maindoc" / f"UBL-{kind}-2.1.xsd")))


def schema_errors(data: bytes) -> list[str]:
    """What the OASIS schemas of UBL 2.1 find wrong."""
    root = tree(data)
    schema = _schema(etree.QName(root).localname)
    schema.validate(root)
    return [f"line {error.line}: {error.message}" for error in schema.error_log]


def rule_errors(data: bytes) -> list[object]:
    """What the rules of Peppol BIS Billing 3.0, as far as the package has them, find wrong."""
    from peppol.rules import check_rules

    return list(check_rules(tree(data)))
