"""The process tree of `tallybook serve`."""
