"""Thin entry points: server, console, command line, agent."""
