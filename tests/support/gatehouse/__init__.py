"""A whole server in one process, and everything that can be asked of it."""
