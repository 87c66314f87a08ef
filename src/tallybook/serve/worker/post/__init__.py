"""The process that tells facts outside."""
