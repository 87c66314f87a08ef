"""Endpoints, deliveries and attempts in the control database, beside the facts they tell."""
