"""OpenMeter's API, where its shapes differ from ours: its clients work by address and key alone.

Ingesting events and querying a meter are the same on both sides and need nothing here.
"""
