"""The line to the server: a client under the edge's name, key and certificate, or a broker."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tallybook.adapters.host.reader import machine_name
from tallybook.adapters.http.client import Client
from tallybook.adapters.http.sender import HttpEventSender, ZstdPacking
from tallybook.collect.ports import EventSender, Packing
from tallybook.collect.sending.lanes import Pace
from tallybook.collect.sending.parcel import nearest_name
from tallybook.serve.agent.outbound.renewing import Files, Renewing, recover
from tallybook.serve.agent.outbound.sending import Route
from tallybook.serve.agent.settings import AgentSettings, Broker


class Line:
    """Where an agent sends to; closed at the end of a `with` block.

    Attributes:
        url: as people read it.
        edge: the edge's name there.
        route: for the sender.
        client: of the server; also where batches go to a broker.
    """

    def __init__(self, url: str, client: Client, route: Route, ends: ExitStack) -> None:
        """Take what `line_of` opened."""
        self.url = url
        self.client = client
        self.edge = route.edge
        self.route = route
        self._ends = ends

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._ends.close()


def edge_of(settings: AgentSettings) -> str:
    """Return the edge's name at the server."""
    return settings.edge or nearest_name(settings.host_name or machine_name())


def line_of(settings: AgentSettings, url: str, key: str) -> Line:
    """Return the line that the settings describe; nothing is sent yet.

    Raises:
        Invalid: address, key or certificate cannot be used.
    """
    ca_file = str(settings.ca_file) if settings.ca_file else None
    files = None
    if settings.cert_file is not None and settings.cert_key_file is not None:
        files = Files(settings.cert_file, settings.cert_key_file)
        recover(files)
    cert = (str(files.cert), str(files.key)) if files is not None else None
    client = Client(url, key, verify=ca_file, cert=cert)
    ends = ExitStack()
    ends.callback(client.close)
    edge = edge_of(settings)
    packing = ZstdPacking()
    sender: EventSender = HttpEventSender(client)
    if settings.kafka is not None:
        sender = _kafka(settings.kafka, packing, ends)
    route = Route(
        sender=sender,
        packing=packing,
        edge=edge,
        pace=Pace(
            share=settings.backfill_share,
            events_per_second=settings.backfill_events_per_second,
        ),
        tend=Renewing(files, edge, client).look if files is not None else None,
    )
    shown = f"topic {settings.kafka.topic} of {settings.kafka.bootstrap}" if settings.kafka else url
    return Line(shown, client, route, ends)


def _kafka(told: Broker, packing: Packing, ends: ExitStack) -> EventSender:
    """Return a sender to a broker; its library is loaded only where one is configured."""
    from tallybook.adapters.kafka.producer import KafkaEventSender

    options = {**told.settings, "bootstrap.servers": told.bootstrap}
    made = KafkaEventSender(options, told.topic, packing, development=told.development)
    ends.callback(made.close)
    return made
