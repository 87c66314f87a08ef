"""The duplicate index as sorted run files."""
