"""Events as Lago's clients send them."""
