"""The lake on Delta tables."""
