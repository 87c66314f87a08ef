"""Bounds on what comes in; each is a default that settings may narrow or widen."""

EVENT_BYTES_MAX = 64 * 1024
REQUEST_EVENTS_MAX = 10_000
REQUEST_BYTES_MAX = 32 * 1024 * 1024
ATTRIBUTE_CHARS_MAX = 1024
FUTURE_SECONDS_MAX = 24 * 3600
PATH_STEPS_MAX = 8
NAME_CHARS_MAX = 128
"""Longest key or name of a meter, plan, customer or dimension."""
