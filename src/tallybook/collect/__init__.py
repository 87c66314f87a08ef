"""The edge: readings become events; counters, log lines, spooling and sending."""
