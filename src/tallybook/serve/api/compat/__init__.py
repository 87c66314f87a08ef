"""Compatibility: the clients of OpenMeter, Stripe's meter events and Lago, by address."""
