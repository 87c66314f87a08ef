"""Commands about facts that are told outside."""
