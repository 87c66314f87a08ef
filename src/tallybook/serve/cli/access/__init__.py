"""Commands about who may come in: keys, tenants, people, and the log of what was changed."""
