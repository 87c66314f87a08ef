"""Charges of a period become an invoice: lines, one rounding, a gapless number, a manifest."""
