"""Lines that others send to a socket of ours."""
