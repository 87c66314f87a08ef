"""Usage and a price become a charge, exact and unrounded."""
