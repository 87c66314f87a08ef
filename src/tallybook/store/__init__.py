"""The lake: tables, roll-ups, snapshots, retention, query plans."""
