"""A subscriber of an MQTT broker that acknowledges only what was kept.

The session outlives connections (`clean start` off, an expiry), so a broker keeps what comes
while nobody is connected. Messages are acknowledged one by one, by the caller, and only on the
connection that they came by: another connection's packet identifiers may mean other messages.
"""

import ssl
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tallybook.kernel.errors import Invalid, Unavailable

_RETRY_SECONDS_MAX = 30
_KEEPALIVE_SECONDS = 30
_RETAIN_ONCE = 1
"""The broker replays retained messages for a new subscription only."""


class Received(msgspec.Struct, frozen=True):
    """A message as it came: with the connection and packet identifier to acknowledge it by."""

    topic: str
    payload: bytes
    qos: int
    packet: int
    retained: bool
    duplicate: bool
    connection: int
    received_us: int


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker is and who we are there.

    Attributes:
        host: its name or address.
        port: its port.
        client_id: our name, the session's; one agent at a time may have it.
        topics: filters.
        qos: asked for.
        session_seconds: how long the broker keeps the session while we are away.
        clean: begin and end without a session, only to look.
        receive_max: unacknowledged messages at a time.
        version: '5' or '3.1.1'.
        username, password: or None.
        tls: encrypted; ca_file None is the system's certificates; cert_file and key_file are ours.
    """

    host: str
    port: int
    client_id: str
    topics: tuple[str, ...]
    qos: int = 1
    session_seconds: int = 7 * 86400
    clean: bool = False
    receive_max: int = 200
    version: str = "5"
    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class PahoSubscriber:
    """Receives in paho's thread; hands out, and acknowledges, in the caller's.

    Args:
        broker: where and as whom.
        on_message: called, in paho's thread, when something came.

    Attributes:
        forgotten: how often the broker had no session of ours when we connected.

    Raises:
        Invalid: the certificates cannot be used.
    """

    def __init__(self, broker: Broker, on_message: Callable[[], None]) -> None:
        """Prepare; `start` connects."""
        self._broker = broker
        self._on_message = on_message
        self._queue: deque[Received] = deque()
        self._lock = Lock()
        self._connection = 0
        self._first_problem = f"not connected to {broker.host}:{broker.port} yet"
        self._problem: str | None = self._first_problem
        self.forgotten = 0
        self._client = self._made()

    def _made(self) -> paho.Client:
        told = self._broker
        five = told.version == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            told.client_id,
            clean_session=None if five else told.clean,
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            manual_ack=True,
        )
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = self._came
        client.reconnect_delay_set(1, _RETRY_SECONDS_MAX)
        if told.username is not None:
            client.username_pw_set(told.username, told.password)
        if told.tls:
            client.tls_set_context(_context(told))
        return client

    def start(self) -> None:
        """Connect, and connect again whenever the connection is lost."""
        told = self._broker
        more: dict[str, Any] = {}
        if told.version == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0 if told.clean else told.session_seconds
            properties.ReceiveMaximum = told.receive_max
            more = {"clean_start": told.clean, "properties": properties}
        self._client.connect_async(told.host, told.port, keepalive=_KEEPALIVE_SECONDS, **more)
        self._client.on_connect_fail = self._unreachable
        self._client.loop_start()

    @property
    def connecting(self) -> bool:
        """Whether the first connection is not made or refused yet."""
        return self._connection == 0 and self._problem == self._first_problem

    def check(self) -> None:
        """Raise Unavailable where there is no connection, or no subscription."""
        if self._problem is not None:
            raise Unavailable(self._problem)

    def next(self, most: int) -> list[Received]:
        """Return what came and was not handed out yet."""
        with self._lock:
            return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def acknowledge(self, messages: Sequence[Received]) -> None:
        """Tell the broker that these are kept; those of a lost connection come again."""
        for message in messages:
            if message.qos and message.connection == self._connection:
                self._client.ack(message.packet, message.qos)

    def close(self) -> None:
        """Disconnect; the session stays at the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self, client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._problem = f"{self._place()} refuses: {reason}"
            return
        self.forgotten += not flags.session_present
        with self._lock:
            self._connection += 1
            self._queue.clear()  # what was not acknowledged comes again
        qos = self._broker.qos
        if self._broker.version == "5":
            options = SubscribeOptions(qos=qos, retainHandling=_RETAIN_ONCE)
            client.subscribe([(topic, options) for topic in self._broker.topics])
        else:
            client.subscribe([(topic, qos) for topic in self._broker.topics])

    def _subscribed(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        self._problem = f"{self._place()} refuses to subscribe: {refused[0]}" if refused else None

    def _disconnected(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._problem = f"the connection to {self._place()} is lost: {reason}"

    def _came(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        received = Received(
            message.topic, bytes(message.payload), message.qos, message.mid, message.retain,
            message.dup, self._connection, time.time_ns() // 1000,
        )  # fmt: skip
        with self._lock:
            self._queue.append(received)
        self._on_message()

    def _unreachable(self, _client: paho.Client, _data: Any) -> None:
        """Called by paho while it handles what went wrong."""
        why = sys.exc_info()[1]
        self._problem = f"no connection to {self._place()}: {why}"

    def _place(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"


def _context(told: Broker) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=told.ca_file)
        if told.cert_file:
            context.load_cert_chain(told.cert_file, told.key_file)
    except OSError as error:
        message = f"the certificates for {told.host} cannot be used: {error}"
        raise Invalid(message, field="mqtt") from error
    return context
