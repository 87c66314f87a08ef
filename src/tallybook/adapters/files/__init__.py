"""Files of lines: read by position, followed through rotation, parked on refusal."""
