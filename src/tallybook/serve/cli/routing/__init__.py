"""Commands about rules and outbound streams."""
