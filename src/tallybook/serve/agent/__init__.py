"""The edge agent: collectors, a spool on disk, one sender. Runs on the base install alone."""
