"""Nouns that every room shares: event, money, quantity, period, ids, errors, problem, limits."""
