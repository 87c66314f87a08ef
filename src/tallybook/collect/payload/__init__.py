"""Messages of devices as events: payload rules, hexadecimal numbers, StatsD lines."""
