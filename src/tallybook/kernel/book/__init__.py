"""Nouns of the books that many rooms write: ledger entries, and facts to be told outside."""
