"""The operator's web console: server-rendered pages."""
