"""What was granted or paid in advance, and what is left of it at any instant."""
