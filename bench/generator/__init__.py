"""The load generator: bodies made ahead, real HTTP, every acknowledged event counted."""
