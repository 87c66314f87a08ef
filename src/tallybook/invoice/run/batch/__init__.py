"""Batches of payers: composed here, or in other processes, and stored in their order."""
