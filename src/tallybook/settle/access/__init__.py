"""Checks that are cheap: balances kept at an instant and a snapshot, and continued from there."""
