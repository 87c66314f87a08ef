"""Routing: rules, outbound streams, and the groups that consume them."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.api.rest.streams import groups, letters, records, routes, sse, streams

ROUTES: tuple[ControllerRouterHandler, ...] = (
    routes.Routes,
    streams.Streams,
    records.Records,
    letters.DeadLetters,
    sse.follow_stream,
    groups.Groups,
)
