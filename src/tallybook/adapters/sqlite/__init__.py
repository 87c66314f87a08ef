"""SQLite as the durable log and the edge spool."""
