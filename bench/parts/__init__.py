"""The benches of single parts: billing, checks, limits, doors, routing, the edge agent."""
