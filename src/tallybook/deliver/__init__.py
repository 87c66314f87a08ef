"""Delivery: facts told to the outside, attempted until they are taken, each attempt on record."""
