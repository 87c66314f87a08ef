"""Profiles as text: py-spy's samples and memray's high-water mark, into bench/profiles."""
