"""Certificates with the cryptography library: an authority of one's own, and requests to it."""
