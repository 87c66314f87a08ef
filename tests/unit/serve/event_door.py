"""The event door on a partition of its own, and one caller's way in."""

import asyncio
import json
from types import SimpleNamespace

from tallybook.kernel.errors import Forbidden
from tallybook.serve.api.ingest import IngestApp
from tallybook.serve.api.partition import take_lowest
from tallybook.serve.worker.pipeline import trim_mark
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.codec import decode
from tallybook.transport.columns import ColumnSet

KEY = b"Bearer tb_key"
STRUCTURED = b"application/cloudevents+json"
BATCH = b"application/cloudevents-batch+json"
COLUMNS = ColumnSet({"n_bytes": "$.bytes"})
LIMITS = AcceptLimits(request_events_max=50, request_bytes_max=200_000)


class Door:
    """Knows one key, and what it may do."""

    def check(self, authorization, scope, *, bound=False):
        if authorization is None or not authorization.startswith("Bearer tb_"):
            raise Forbidden("send a key", code="no-key")
        if authorization != KEY.decode() or scope != "ingest":
            raise Forbidden("this key may not write")
        return SimpleNamespace(tenant="acme", bound=False)


class Server:
    """The application on a partition of its own."""

    def __init__(self, folder):
        self.partition = take_lowest(folder)
        self.log = self.partition.log
        mark = trim_mark(folder, self.partition.number)
        self.app = IngestApp(self.partition, mark, Door(), lambda: COLUMNS, LIMITS)

    async def send(self, body=b"", headers=None, query=b"", key=KEY, parts=None):
        """Return status, headers and JSON body of one request."""
        given = [(name.encode(), value) for name, value in (headers or {}).items()]
        given += [(b"authorization", key)] if key else []
        scope = {"type": "http", "method": "POST", "headers": given, "query_string": query}
        pieces = parts if parts is not None else [body]
        said = [
            {"type": "http.request", "body": piece, "more_body": i < len(pieces) - 1}
            for i, piece in enumerate(pieces)
        ]
        heard = []

        async def receive():
            return said.pop(0) if said else {"type": "http.disconnect"}

        async def tell(message):
            heard.append(message)

        await self.app(scope, receive, tell)
        content = heard[1]["body"]
        found = dict(heard[0]["headers"])
        return heard[0]["status"], found, json.loads(content) if content else None

    def post(self, *args, **more):
        return asyncio.run(self.send(*args, **more))

    def stored(self):
        """Return every event of the log, as columns a row."""
        return [
            event
            for row in self.log.read(0, 1000)
            for event in decode(row.payload or b"").to_pylist()
        ]

    def close(self):
        self.app.close()
        self.partition.close()


def event(event_id="1", **more):
    return {"specversion": "1.0", "id": event_id, "source": "/s", "type": "t", **more}


def as_json(value):
    return json.dumps(value).encode()


def content(kind, **more):
    return {"content-type": kind, **more}
