"""Who sends: edges are watched beside the hot path, and their certificates checked before it."""
