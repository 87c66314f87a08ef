"""The HTTP API of CONTRACTS §3."""
