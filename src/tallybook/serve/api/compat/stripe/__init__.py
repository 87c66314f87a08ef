"""Meter events as Stripe's clients send them."""
