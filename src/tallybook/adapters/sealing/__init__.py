"""Secrets encrypted under the server's secret."""
