"""Rules that send an event to its streams, and the quarantine for what cannot be processed."""
