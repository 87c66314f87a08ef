"""Files of meters: what was used in each interval, as NEM12 and as CSV with declared columns."""
