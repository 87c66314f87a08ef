"""Tallybook: usage becomes money, without one event lost or counted twice."""

__version__ = "0.1.0"
