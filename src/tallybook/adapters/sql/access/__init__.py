"""Who may come in besides keys, and what was changed: tenants, people, the audit log."""
