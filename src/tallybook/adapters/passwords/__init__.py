"""Passwords of people, hashed with argon2id (DECISIONS 32)."""
