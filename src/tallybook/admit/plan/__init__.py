"""Usage plans: how often a key may ask, how much, and how many requests at once."""
