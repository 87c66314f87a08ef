"""The Python client.

from tallybook import Client

with Client("http://127.0.0.1:8080", "tb_…") as client:
    client.record("api.request", "customer-1", {"tokens": 17})
"""

from tallybook.client.client import Client
from tallybook.client.events import RefusedEvent
from tallybook.client.stats import Stats

__all__ = ["Client", "RefusedEvent", "Stats"]
