"""Aggregation at the edge: many events become one a minute and key, and nothing is lost by it.

`rule` says which events and by what; `window` is one minute of one key; `fold` puts events into
windows and closes them. All of it is arithmetic: what is kept where is decided in the agent.
"""
