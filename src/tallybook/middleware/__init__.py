"""Counts a Python application's requests, and whatever else it wants counted, into a journal.

    from tallybook.middleware import Journal, MeteredASGI, MeteredWSGI

    app = MeteredASGI(app, Journal("requests.journal"))

The journal is a file beside the application; the edge agent follows it
(`[[access_log]]`, `format = "cloudevents"`), or `tallybook ingest` sends it.
"""

from tallybook.middleware.asgi import MeteredASGI
from tallybook.middleware.journal import Journal
from tallybook.middleware.wsgi import MeteredWSGI

__all__ = ["Journal", "MeteredASGI", "MeteredWSGI"]
