"""Routing: rules that put a record of the inbound stream on outbound streams."""
