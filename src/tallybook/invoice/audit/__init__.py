"""Proofs: an invoice against its events, and every event against the books."""
