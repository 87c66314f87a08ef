"""The catalog as a file: applied, shown before, and priced against history."""

from tallybook.serve.cli.catalog.apply import apply, send_catalog

__all__ = ["apply", "send_catalog"]
