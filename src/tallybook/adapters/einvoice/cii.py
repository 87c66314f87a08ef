"""UN/CEFACT Cross Industry Invoice D22B, profile EN 16931: the XML of Factur-X and ZUGFeRD.

Source: EN 16931-3-3; Factur-X 1.07, profile EN 16931.
"""

from datetime import date
from decimal import Decimal

from tallybook.adapters.einvoice.bill import Account, Bill, Breakdown, Item, Rate, Trader
from tallybook.adapters.einvoice.codes import DISCOUNT
from tallybook.adapters.einvoice.xml import Tree, document, written

GUIDELINE = "urn:cen.eu:en16931:2017"
NAMESPACES = {
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
    "qdt": "urn:un:unece:uncefact:data:standard:QualifiedDataType:100",
}
DAYS = "102"
"""UNTDID 2379: CCYYMMDD."""
LINE_NAMES = ("ram:LineOne", "ram:LineTwo", "ram:LineThree")


def cii(bill: Bill) -> str:
    """Return a bill as CII."""
    root = document("rsm:CrossIndustryInvoice", NAMESPACES)
    context = root.under("rsm:ExchangedDocumentContext")
    guideline = context.under("ram:GuidelineSpecifiedDocumentContextParameter")
    guideline.text("ram:ID", GUIDELINE)
    head = root.under("rsm:ExchangedDocument")
    head.text("ram:ID", bill.number)
    head.text("ram:TypeCode", bill.kind)
    _day(head, "ram:IssueDateTime", bill.issued)
    if bill.note:
        head.under("ram:IncludedNote").text("ram:Content", bill.note)
    deal = root.under("rsm:SupplyChainTradeTransaction")
    for item in bill.items:
        _item(deal.under("ram:IncludedSupplyChainTradeLineItem"), item)
    agreement = deal.under("ram:ApplicableHeaderTradeAgreement")
    agreement.text("ram:BuyerReference", bill.buyer_reference)
    _trader(agreement.under("ram:SellerTradeParty"), bill.seller)
    _trader(agreement.under("ram:BuyerTradeParty"), bill.buyer)
    _delivery(deal.under("ram:ApplicableHeaderTradeDelivery"), bill)
    _settlement(deal.under("ram:ApplicableHeaderTradeSettlement"), bill)
    return written(root)


def _day(tree: Tree, name: str, day: date) -> None:
    tree.under(name).text("udt:DateTimeString", f"{day:%Y%m%d}", format=DAYS)


def _period(tree: Tree, first: date | None, last: date | None) -> None:
    if first is None or last is None:
        return
    period = tree.under("ram:BillingSpecifiedPeriod")
    _day(period, "ram:StartDateTime", first)
    _day(period, "ram:EndDateTime", last)


def _item(tree: Tree, item: Item) -> None:
    about = tree.under("ram:AssociatedDocumentLineDocument")
    about.text("ram:LineID", item.id)
    if item.note:
        about.under("ram:IncludedNote").text("ram:Content", item.note)
    product = tree.under("ram:SpecifiedTradeProduct")
    product.text("ram:SellerAssignedID", item.seller_item)
    product.text("ram:Name", item.name)
    product.text("ram:Description", item.description)
    for name, value in item.attributes:
        attribute = product.under("ram:ApplicableProductCharacteristic")
        attribute.text("ram:Description", name)
        attribute.text("ram:Value", value)
    price = tree.under("ram:SpecifiedLineTradeAgreement").under("ram:NetPriceProductTradePrice")
    price.text("ram:ChargeAmount", item.price)
    price.text("ram:BasisQuantity", item.price_base, unitCode=item.unit)
    delivery = tree.under("ram:SpecifiedLineTradeDelivery")
    delivery.text("ram:BilledQuantity", item.quantity, unitCode=item.unit)
    settlement = tree.under("ram:SpecifiedLineTradeSettlement")
    tax = settlement.under("ram:ApplicableTradeTax")
    tax.text("ram:TypeCode", "VAT")
    _rate(tax, item.rate)
    _period(settlement, item.first, item.last)
    _deduction(settlement, item)
    sums = settlement.under("ram:SpecifiedTradeSettlementLineMonetarySummation")
    sums.text("ram:LineTotalAmount", item.net)


def _deduction(tree: Tree, item: Item) -> None:
    if item.deduction is None:
        return
    off = tree.under("ram:SpecifiedTradeAllowanceCharge")
    off.under("ram:ChargeIndicator").text("udt:Indicator", _truth(item.deduction.charge))
    off.text("ram:ActualAmount", item.deduction.amount)
    off.text("ram:ReasonCode", "" if item.deduction.charge else DISCOUNT)
    off.text("ram:Reason", item.deduction.reason)


def _truth(value: bool) -> str:  # noqa: FBT001 - the value itself
    return "true" if value else "false"


def _rate(tree: Tree, rate: Rate) -> None:
    tree.text("ram:CategoryCode", rate.category)
    if rate.percent is not None:
        tree.text("ram:RateApplicablePercent", rate.percent)


def _trader(tree: Tree, who: Trader) -> None:
    tree.text("ram:Name", who.name)
    if who.registration:
        tree.under("ram:SpecifiedLegalOrganization").text("ram:ID", who.registration)
    _contact(tree, who)
    address = tree.under("ram:PostalTradeAddress")
    address.text("ram:PostcodeCode", who.postal_code)
    for name, line in zip(LINE_NAMES, who.lines, strict=False):
        address.text(name, line)
    address.text("ram:CityName", who.city)
    address.text("ram:CountryID", who.country)
    if who.endpoint is not None:
        scheme, identifier = who.endpoint
        tree.under("ram:URIUniversalCommunication").text("ram:URIID", identifier, schemeID=scheme)
    for scheme, number in (("VA", who.vat), ("FC", who.tax_number)):
        if number:
            tree.under("ram:SpecifiedTaxRegistration").text("ram:ID", number, schemeID=scheme)


def _contact(tree: Tree, who: Trader) -> None:
    if not (who.contact or who.phone or who.email):
        return
    contact = tree.under("ram:DefinedTradeContact")
    contact.text("ram:PersonName", who.contact)
    if who.phone:
        number = contact.under("ram:TelephoneUniversalCommunication")
        number.text("ram:CompleteNumber", who.phone)
    if who.email:
        contact.under("ram:EmailURIUniversalCommunication").text("ram:URIID", who.email)


def _delivery(tree: Tree, bill: Bill) -> None:
    """Say where to, which an intra-community supply must (BR-IC-12)."""
    if any(part.rate.category == "K" for part in bill.breakdown):
        address = tree.under("ram:ShipToTradeParty").under("ram:PostalTradeAddress")
        address.text("ram:PostcodeCode", bill.buyer.postal_code)
        address.text("ram:CityName", bill.buyer.city)
        address.text("ram:CountryID", bill.buyer.country)


def _settlement(tree: Tree, bill: Bill) -> None:
    if bill.account is not None:
        tree.text("ram:PaymentReference", bill.account.reference)
    tree.text("ram:InvoiceCurrencyCode", bill.currency)
    if bill.account is not None:
        _account(tree.under("ram:SpecifiedTradeSettlementPaymentMeans"), bill.account)
    for part in bill.breakdown:
        _breakdown(tree.under("ram:ApplicableTradeTax"), part)
    _period(tree, bill.first, bill.last)
    if bill.terms or bill.due is not None:
        terms = tree.under("ram:SpecifiedTradePaymentTerms")
        terms.text("ram:Description", bill.terms)
        if bill.due is not None:
            _day(terms, "ram:DueDateDateTime", bill.due)
    _sums(tree.under("ram:SpecifiedTradeSettlementHeaderMonetarySummation"), bill)
    if bill.preceding:
        tree.under("ram:InvoiceReferencedDocument").text("ram:IssuerAssignedID", bill.preceding)


def _account(tree: Tree, account: Account) -> None:
    tree.text("ram:TypeCode", account.means)
    if not account.iban:
        return
    creditor = tree.under("ram:PayeePartyCreditorFinancialAccount")
    creditor.text("ram:IBANID", account.iban)
    creditor.text("ram:AccountName", account.holder)
    if account.bic:
        bank = tree.under("ram:PayeeSpecifiedCreditorFinancialInstitution")
        bank.text("ram:BICID", account.bic)


def _breakdown(tree: Tree, part: Breakdown) -> None:
    tree.text("ram:CalculatedAmount", part.tax)
    tree.text("ram:TypeCode", "VAT")
    tree.text("ram:ExemptionReason", part.reason)
    tree.text("ram:BasisAmount", part.base)
    tree.text("ram:CategoryCode", part.rate.category)
    tree.text("ram:ExemptionReasonCode", part.reason_code)
    if part.rate.percent is not None:
        tree.text("ram:RateApplicablePercent", part.rate.percent)


def _sums(tree: Tree, bill: Bill) -> None:
    lines = bill.lines_total()
    tree.text("ram:LineTotalAmount", lines)
    tree.text("ram:TaxBasisTotalAmount", lines)
    tree.text("ram:TaxTotalAmount", bill.tax_total(), currencyID=bill.currency)
    tree.text("ram:GrandTotalAmount", bill.total())
    if bill.paid != Decimal(0):
        tree.text("ram:TotalPrepaidAmount", bill.paid)
    tree.text("ram:DuePayableAmount", bill.payable())
