"""Pages about rules and outbound streams."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.routing import streams

ROUTES: list[ControllerRouterHandler] = [
    streams.streams_page,
    streams.stream_page,
    streams.redrive_letters,
]
