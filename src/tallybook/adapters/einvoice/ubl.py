"""UBL 2.1 as Peppol BIS Billing 3 has it: an Invoice, or a CreditNote.

Source: EN 16931-3-2; Peppol BIS Billing 3.0.
"""

from datetime import date
from decimal import Decimal

from tallybook.adapters.einvoice.bill import Account, Bill, Breakdown, Item, Rate, Trader
from tallybook.adapters.einvoice.codes import DISCOUNT, EMAIL_SCHEME
from tallybook.adapters.einvoice.traders import needed
from tallybook.adapters.einvoice.xml import Tree, document, written

CUSTOMIZATION = "urn:cen.eu:en16931:2017#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0"
PROCESS = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
_UBL = "urn:oasis:names:specification:ubl:schema:xsd:"
COMMON = {
    "cac": f"{_UBL}CommonAggregateComponents-2",
    "cbc": f"{_UBL}CommonBasicComponents-2",
}
GERMANY = "DE"
ADDRESS_NAMES = ("cbc:StreetName", "cbc:AdditionalStreetName")


def ubl(bill: Bill) -> str:
    """Return a bill as UBL for Peppol.

    Raises:
        Invalid: a party has no electronic address, which Peppol delivers to.
    """
    _check(bill)
    name = "Invoice" if bill.kind == "380" else "CreditNote"
    root = document(name, {"": f"{_UBL}{name}-2", **COMMON})
    root.text("cbc:CustomizationID", CUSTOMIZATION)
    root.text("cbc:ProfileID", PROCESS)
    root.text("cbc:ID", bill.number)
    root.text("cbc:IssueDate", bill.issued.isoformat())
    if name == "Invoice" and bill.due is not None:
        root.text("cbc:DueDate", bill.due.isoformat())
    root.text(f"cbc:{name}TypeCode", bill.kind)
    root.text("cbc:Note", bill.note)
    root.text("cbc:DocumentCurrencyCode", bill.currency)
    root.text("cbc:BuyerReference", bill.buyer_reference)
    _period(root, bill.first, bill.last)
    if bill.preceding:
        earlier = root.under("cac:BillingReference").under("cac:InvoiceDocumentReference")
        earlier.text("cbc:ID", bill.preceding)
    _trader(root.under("cac:AccountingSupplierParty"), bill.seller)
    _trader(root.under("cac:AccountingCustomerParty"), bill.buyer)
    _delivery(root, bill)
    if bill.account is not None:
        _account(root.under("cac:PaymentMeans"), bill.account)
    if bill.terms:
        root.under("cac:PaymentTerms").text("cbc:Note", bill.terms)
    _taxes(root.under("cac:TaxTotal"), bill)
    _sums(root.under("cac:LegalMonetaryTotal"), bill)
    for item in bill.items:
        _item(root.under(f"cac:{name}Line"), item, bill)
    return written(root)


def _check(bill: Bill) -> None:
    for who, field in ((bill.seller, "seller"), (bill.buyer, "customers")):
        if who.endpoint is None or who.endpoint[0] == EMAIL_SCHEME:
            what = f"the electronic address of {who.name}, scheme:identifier, to be sent by Peppol"
            raise needed(what, f"{field}.place.endpoint")
    if bill.seller.country == bill.buyer.country == GERMANY:
        _check_german(bill)


def _check_german(bill: Bill) -> None:
    """Refuse what Peppol's rules for invoices within Germany would (DE-R-001 to DE-R-009)."""
    seller, buyer = bill.seller, bill.buyer
    known = {
        "seller.bank.iban": bill.account is not None,
        "seller.place.contact": seller.contact,
        "seller.place.phone": seller.phone,
        "seller.email": seller.email,
        "seller.place.city": seller.city,
        "seller.place.postal_code": seller.postal_code,
        "customers.place.city": buyer.city,
        "customers.place.postal_code": buyer.postal_code,
    }
    for field, there in known.items():
        if not there:
            raise needed(f"{field}, within Germany", field)


def _money(tree: Tree, name: str, amount: Decimal, bill: Bill) -> None:
    tree.text(name, amount, currencyID=bill.currency)


def _period(tree: Tree, first: date | None, last: date | None) -> None:
    if first is None or last is None:
        return
    period = tree.under("cac:InvoicePeriod")
    period.text("cbc:StartDate", first.isoformat())
    period.text("cbc:EndDate", last.isoformat())


def _trader(tree: Tree, who: Trader) -> None:
    party = tree.under("cac:Party")
    assert who.endpoint is not None, "was checked"
    scheme, identifier = who.endpoint
    party.text("cbc:EndpointID", identifier, schemeID=scheme)
    party.under("cac:PartyName").text("cbc:Name", who.name)
    address = party.under("cac:PostalAddress")
    for name, line in zip(ADDRESS_NAMES, who.lines, strict=False):
        address.text(name, line)
    address.text("cbc:CityName", who.city)
    address.text("cbc:PostalZone", who.postal_code)
    for line in who.lines[len(ADDRESS_NAMES) :]:
        address.under("cac:AddressLine").text("cbc:Line", line)
    address.under("cac:Country").text("cbc:IdentificationCode", who.country)
    for scheme, number in (("VAT", who.vat), ("TAX", who.tax_number)):
        if number:
            tax = party.under("cac:PartyTaxScheme")
            tax.text("cbc:CompanyID", number)
            tax.under("cac:TaxScheme").text("cbc:ID", scheme)
    legal = party.under("cac:PartyLegalEntity")
    legal.text("cbc:RegistrationName", who.name)
    legal.text("cbc:CompanyID", who.registration)
    if who.contact or who.phone or who.email:
        contact = party.under("cac:Contact")
        contact.text("cbc:Name", who.contact)
        contact.text("cbc:Telephone", who.phone)
        contact.text("cbc:ElectronicMail", who.email)


def _delivery(root: Tree, bill: Bill) -> None:
    """Say where to, which an intra-community supply must (BR-IC-12)."""
    if any(part.rate.category == "K" for part in bill.breakdown):
        where = root.under("cac:Delivery").under("cac:DeliveryLocation").under("cac:Address")
        where.text("cbc:CityName", bill.buyer.city)
        where.text("cbc:PostalZone", bill.buyer.postal_code)
        where.under("cac:Country").text("cbc:IdentificationCode", bill.buyer.country)


def _account(tree: Tree, account: Account) -> None:
    tree.text("cbc:PaymentMeansCode", account.means)
    tree.text("cbc:PaymentID", account.reference)
    if not account.iban:
        return
    payee = tree.under("cac:PayeeFinancialAccount")
    payee.text("cbc:ID", account.iban)
    payee.text("cbc:Name", account.holder)
    if account.bic:
        payee.under("cac:FinancialInstitutionBranch").text("cbc:ID", account.bic)


def _taxes(tree: Tree, bill: Bill) -> None:
    _money(tree, "cbc:TaxAmount", bill.tax_total(), bill)
    for part in bill.breakdown:
        subtotal = tree.under("cac:TaxSubtotal")
        _money(subtotal, "cbc:TaxableAmount", part.base, bill)
        _money(subtotal, "cbc:TaxAmount", part.tax, bill)
        _rate(subtotal.under("cac:TaxCategory"), part.rate, part)


def _rate(tree: Tree, rate: Rate, part: Breakdown | None = None) -> None:
    tree.text("cbc:ID", rate.category)
    percent = Decimal(0) if rate.percent is None and part is not None else rate.percent
    if percent is not None:
        tree.text("cbc:Percent", percent)
    if part is not None:
        tree.text("cbc:TaxExemptionReasonCode", part.reason_code)
        tree.text("cbc:TaxExemptionReason", part.reason)
    tree.under("cac:TaxScheme").text("cbc:ID", "VAT")


def _sums(tree: Tree, bill: Bill) -> None:
    lines = bill.lines_total()
    _money(tree, "cbc:LineExtensionAmount", lines, bill)
    _money(tree, "cbc:TaxExclusiveAmount", lines, bill)
    _money(tree, "cbc:TaxInclusiveAmount", bill.total(), bill)
    if bill.paid != Decimal(0):
        _money(tree, "cbc:PrepaidAmount", bill.paid, bill)
    _money(tree, "cbc:PayableAmount", bill.payable(), bill)


def _item(tree: Tree, item: Item, bill: Bill) -> None:
    tree.text("cbc:ID", item.id)
    tree.text("cbc:Note", item.note)
    quantity = "cbc:InvoicedQuantity" if bill.kind == "380" else "cbc:CreditedQuantity"
    tree.text(quantity, item.quantity, unitCode=item.unit)
    _money(tree, "cbc:LineExtensionAmount", item.net, bill)
    _period(tree, item.first, item.last)
    _deduction(tree, item, bill)
    product = tree.under("cac:Item")
    product.text("cbc:Description", item.description)
    product.text("cbc:Name", item.name)
    if item.seller_item:
        product.under("cac:SellersItemIdentification").text("cbc:ID", item.seller_item)
    _rate(product.under("cac:ClassifiedTaxCategory"), item.rate)
    for name, value in item.attributes:
        attribute = product.under("cac:AdditionalItemProperty")
        attribute.text("cbc:Name", name)
        attribute.text("cbc:Value", value)
    price = tree.under("cac:Price")
    _money(price, "cbc:PriceAmount", item.price, bill)
    price.text("cbc:BaseQuantity", item.price_base, unitCode=item.unit)


def _deduction(tree: Tree, item: Item, bill: Bill) -> None:
    if item.deduction is None:
        return
    off = tree.under("cac:AllowanceCharge")
    off.text("cbc:ChargeIndicator", "true" if item.deduction.charge else "false")
    off.text("cbc:AllowanceChargeReasonCode", "" if item.deduction.charge else DISCOUNT)
    off.text("cbc:AllowanceChargeReason", item.deduction.reason)
    _money(off, "cbc:Amount", item.deduction.amount, bill)
