"""What is done with measurements: medians, trends, verdicts, totals, pages. Pure."""
