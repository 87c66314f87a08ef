"""Memory-mapped files: what the processes of one server count together."""
