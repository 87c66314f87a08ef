"""Windows and aggregates: one meter definition, the same answer on every engine."""
