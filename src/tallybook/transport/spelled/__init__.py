"""Where values stand, found by comparing events that are spelled alike."""
