"""Usage plans at the door: every request is counted under its key's limits before it is read."""
