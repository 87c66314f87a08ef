"""Edges as the server sees them, and the authority that issues their certificates."""
