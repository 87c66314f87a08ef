"""Codes of the lists that EN 16931 names."""

UNITS = {
    "": "C62",
    "By": "AD",
    "byte": "AD",
    "bytes": "AD",
    "kB": "2P",
    "KB": "2P",
    "MB": "4L",
    "GB": "E34",
    "TB": "E35",
    "PB": "E36",
    "KiB": "E64",
    "MiB": "E63",
    "GiB": "E62",
    "TiB": "E61",
    "s": "SEC",
    "second": "SEC",
    "seconds": "SEC",
    "min": "MIN",
    "minute": "MIN",
    "minutes": "MIN",
    "h": "HUR",
    "hour": "HUR",
    "hours": "HUR",
    "unit-h": "HUR",
    "d": "DAY",
    "day": "DAY",
    "days": "DAY",
    "month": "MON",
    "months": "MON",
    "year": "ANN",
    "years": "ANN",
    "Wh": "WHR",
    "kWh": "KWH",
    "MWh": "MWH",
    "kW": "KWT",
    "m": "MTR",
    "km": "KMT",
    "g": "GRM",
    "kg": "KGM",
    "t": "TNE",
    "L": "LTR",
    "l": "LTR",
    "m3": "MTQ",
    "%": "P1",
}
"""Unit of a meter -> UN/ECE Recommendation 20; whatever is not listed is counted in pieces."""
PIECES = "C62"

EXEMPTIONS = {
    "E": "",
    "AE": "VATEX-EU-AE",
    "K": "VATEX-EU-IC",
    "G": "VATEX-EU-G",
    "O": "VATEX-EU-O",
}
"""Category that charges nothing and must say why -> VATEX code."""

REASONS = {
    "E": "Exempt from VAT",
    "AE": "Reverse charge",
    "K": "Intra-community supply",
    "G": "Export outside the EU",
    "O": "Not subject to VAT",
}
"""The same in words, where the tax has none of its own."""

SEPA = "58"
CREDIT_TRANSFER = "30"
CLEARING = "97"
OUT_OF_SCOPE = "O"
DISCOUNT = "95"
"""UNTDID 5189: discount."""
EMAIL_SCHEME = "EM"


def unit_code(unit: str) -> str:
    """Return the code of a meter's unit."""
    return UNITS.get(unit, PIECES)
