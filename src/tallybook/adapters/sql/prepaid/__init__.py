"""What customers were granted or paid in advance: grants, top-ups, draws."""
