"""The pattern language of routes: parsed once, compiled, matched without backtracking.

Source: docs/algorithms/patterns.md.
"""
