"""An MQTT broker as a source: what is kept is acknowledged, in this order."""

import secrets
import time
from pathlib import Path

from tallybook.adapters.mqtt.subscriber import Broker, PahoSubscriber, Received
from tallybook.collect.flow import decoded, encoded
from tallybook.collect.payload.registers import Registers
from tallybook.collect.payload.rules import Message, Reader
from tallybook.collect.payload.session import RECEIVE_MAX, Session, delivered, session_gap
from tallybook.collect.payload.topics import subscription
from tallybook.collect.spool import encode_event
from tallybook.kernel.errors import Invalid
from tallybook.serve.agent.sources.plug import Surroundings
from tallybook.serve.agent.sources.tables import Mqtt

_BATCH_MAX = 1000
_LOOK_SECONDS = 2.0


class MqttSource:
    """`Source` of one broker.

    Args:
        told: its table of the settings.
        edge: this edge's name, part of our name at the broker.
    """

    interval_seconds: float | None = 5.0
    """What comes asks to be read at once; this is for telling that nothing can come."""

    def __init__(self, told: Mqtt, edge: str) -> None:
        """Connect to nothing yet."""
        self.told = (told, edge)
        self.name = f"{told.name} {told.host}"
        self._table = told
        self._client_id = told.client_id or f"tallybook-{edge}"
        self._source = f"mqtt:{told.name}"
        self._reader = Reader(told.rules, self._source)
        self._cursor = f"mqtt:{told.name}:{told.host}:{told.port}:{self._client_id}"
        self._subscriber: PahoSubscriber | None = None
        self._forgotten = 0
        self._known = 0

    def read(self, around: Surroundings) -> int:
        """Keep what came, and acknowledge it."""
        if self._subscriber is None:
            self._subscriber = self._connected(around)
        events = 0
        while messages := self._subscriber.next(_BATCH_MAX):
            events += self._keep(messages, around, self._subscriber)
            if not around.may_go_on():
                break
        self._subscriber.check()
        return events

    def close(self) -> None:
        """Disconnect; the session stays at the broker."""
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None

    def _keep(
        self, messages: list[Received], around: Surroundings, subscriber: PahoSubscriber
    ) -> int:
        known = around.intake.cursor(self._cursor)
        session = decoded(known, Session) if known else Session(epoch=secrets.token_hex(8))
        found = []
        if subscriber.forgotten > self._forgotten:
            self._forgotten = subscriber.forgotten
            if known is not None:
                around.voice.say(f"{self.name}: the broker has forgotten the session; what came"
                                 " while the agent was away is lost")  # fmt: skip
                found.append(session_gap(session, self._source, time.time_ns() // 1000))
        registers = Registers(f"register:{self._table.name}:", around.intake.cursor, self._known)
        for message in messages:
            delivery = delivered(
                session, message.packet, message.topic, message.payload, duplicate=message.duplicate
            )
            session = delivery.session
            if not delivery.repeated:
                found += self._reader.events(_message(message, delivery.name), registers)
        pieces = [encode_event(event) for event in found]
        if not around.dry:
            cursors = {**registers.changed, self._cursor: encoded(session)}
            kept = around.intake.take(pieces, cursors, repeats=True)
            self._known = registers.known
            subscriber.acknowledge(messages)
            return kept
        return around.intake.take(pieces, {})

    def _connected(self, around: Surroundings) -> PahoSubscriber:
        told = self._table
        broker = Broker(
            host=told.host,
            port=told.port or (8883 if told.tls else 1883),
            client_id=f"{self._client_id}-{secrets.token_hex(4)}"
            if around.dry
            else self._client_id,
            topics=tuple(dict.fromkeys(subscription(rule.topic) for rule in told.rules)),
            qos=told.qos,
            session_seconds=told.session_seconds,
            clean=around.dry,
            receive_max=RECEIVE_MAX,
            version=told.version,
            username=told.username,
            password=told.password or _text(told.password_file),
            tls=told.tls,
            ca_file=_path(told.ca_file),
            cert_file=_path(told.cert_file),
            key_file=_path(told.key_file),
        )
        subscriber = PahoSubscriber(broker, lambda: around.wake(self))
        subscriber.start()
        deadline = time.monotonic() + _LOOK_SECONDS
        while (around.dry or subscriber.connecting) and time.monotonic() < deadline:
            time.sleep(0.02)
        return subscriber


def _message(received: Received, name: str) -> Message:
    return Message(
        topic=received.topic,
        payload=received.payload,
        retained=received.retained,
        delivery=name,
        received_us=received.received_us,
    )


def _path(path: Path | None) -> str | None:
    return str(path) if path else None


def _text(path: Path | None) -> str | None:
    try:
        return path.read_text().strip() if path else None
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror or error}", field="password_file") from error
