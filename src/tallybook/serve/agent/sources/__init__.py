"""What the agent reads: one module a family, plugged in by `registry`."""
