"""Adapters by technology. Each converts and calls; none decides; none knows another."""
