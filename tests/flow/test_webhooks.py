"""Facts on their way to a real receiver, by the real sender, on a control database."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tallybook.adapters.sealing.aesgcm import AesGcmSeal
from tallybook.adapters.sql.database import open_database, sqlite_url, write
from tallybook.adapters.sql.outbox import add_facts
from tallybook.adapters.sql.post.store import SqlPost
from tallybook.adapters.webhook.channel import WebhookChannel
from tallybook.adapters.webhook.signing import new_secret
from tallybook.compose import World
from tallybook.deliver.delivery import Answer
from tallybook.deliver.endpoint import Endpoint, Secret, rotated
from tallybook.deliver.flow import add, change, fan_out, replay, secret_place, take
from tallybook.deliver.ports import Asked
from tallybook.deliver.schedule import HORIZON_US
from tallybook.deliver.steps import Written
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Unavailable
from tallybook.kernel.timestamps import DAY_US, SECOND_US
from tallybook.serve.worker.post import run
from tallybook.serve.worker.post.sender import Bounds, Sender
from tallybook.settings import Settings, WebhookSettings
from tests.support.receiver import Handler, Receiver, raw_server, receiving


class Clock:
    """The machine's clock, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.ahead_us  # noqa: TID251 - receivers check it


class Office:
    """A post with one sender; attempts are as fast as the test wants them to be."""

    def __init__(self, folder: Path, total_seconds: float = 2.0, **bounds: Any) -> None:
        self.engine = open_database(sqlite_url(folder / "control.db"))
        self.post = SqlPost(self.engine)
        self.seal = AesGcmSeal(b"s" * 32)
        self.clock = Clock()
        self.channel: Any = WebhookChannel(allow_private=True, total_seconds=total_seconds)
        self.bounds = Bounds(**bounds)
        self.sender = self.another()
        self.facts = 0

    def another(self) -> Sender:
        channels = {"webhook": self.channel}
        return Sender(self.post, channels, self.seal, self.clock, "node.x", self.bounds)

    def endpoint(self, url: str, name: str = "e1", **said: Any) -> str:
        secret = new_secret()
        sealed = Secret(sealed=self.seal.close(secret, secret_place("t", name)), created_us=1)
        made = Endpoint(
            id=name, channel="webhook", address=url, created_us=1, secrets=(sealed,), **said
        )
        add(self.post, "t", made)
        return secret

    def tell(self, count: int = 1, kind: str = "invoice.paid") -> list[str]:
        names = [f"fact_{self.facts + n:05}" for n in range(count)]
        self.facts += count
        now_us = self.clock.now_us()
        facts = [
            Fact(id=name, kind=kind, subject="s", customer="c", at_us=now_us, body='{"a":"ü"}')
            for name in names
        ]
        with write(self.engine) as connection:
            add_facts(connection, "t", facts)
        return names

    def run(self, until: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, self.all()
            if not self.sender.round():
                self.sender.wait(0.01)

    def settle(self) -> None:
        """Send until nothing is due and nothing is under way."""
        self.run(lambda: not self.sender.under_way and not self._due())

    def _due(self) -> bool:
        return bool(self.post.figures().facts or self.post.ready(self.clock.now_us()))

    def all(self) -> list[Any]:
        return self.post.deliveries("t", Asked(limit=1000))

    def states(self) -> list[str]:
        return [one.state for one in self.all()]

    def attempts(self) -> list[Any]:
        (one,) = self.all()
        return self.post.delivery("t", one.id)[2]

    def health(self, name: str = "e1") -> Endpoint:
        return next(one for one in self.post.endpoints("t") if one.id == name)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def test_a_fact_arrives_and_verifies(office: Office, hook: Receiver) -> None:
    hook.secrets.append(office.endpoint(hook.url))
    (name,) = office.tell()
    office.settle()
    (heard,) = hook.heard
    assert hook.unverified == []
    assert (heard.id, heard.body["id"], heard.body["data"]) == (name, name, {"a": "ü"})
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["webhook-signature"].startswith("v1,")
    assert office.states() == ["delivered"]
    assert office.attempts()[0].text == "ok"


def test_five_hundreds_then_well_under_one_id(office: Office, hook: Receiver) -> None:
    def answer(handler: Handler, number: int) -> None:
        handler.say(500 if number < 3 else 204, b"no" if number < 3 else b"")

    hook.answer = answer
    hook.secrets.append(office.endpoint(hook.url))
    office.tell()
    for seconds in (0, 10, 600):
        office.settle()
        if seconds == 0:
            assert office.health().state == "failing"
        office.clock.ahead_us += 0
        if office.states() == ["retrying"]:
            _pass(office, hook)
    assert office.states() == ["delivered"]
    assert [one.code for one in office.attempts()] == [500, 500, 204]
    assert len(hook.ids()) == 1
    assert office.health().state == "active"


def _pass(office: Office, hook: Receiver) -> None:
    """Let time pass until the next attempt; the receiver's clock stands still."""
    hook.secrets.clear()
    (one,) = office.all()
    office.clock.ahead_us += max(0, one.due_us - office.clock.now_us())


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (301, {"location": "http://127.0.0.1:9/else"}, "redirects are not followed"),
        (307, {"location": "/other"}, "redirects are not followed"),
        (400, {}, "it answered 400"),
        (404, {}, "it answered 404"),
        (503, {}, "it answered 503"),
    ],
)
def test_every_other_status_is_tried_again(
    office: Office, hook: Receiver, status: int, headers: dict[str, str], error: str
) -> None:
    hook.answer = lambda handler, _number: handler.say(status, b"because", **headers)
    office.endpoint(hook.url)
    office.tell()
    office.run(lambda: office.states() == ["retrying"])
    (made,) = office.attempts()
    assert (made.outcome, made.code, made.text) == ("failed", status, "because")
    assert error in made.error
    assert len(hook.heard) == 1


def test_retry_after_is_honoured(office: Office, hook: Receiver) -> None:
    hook.answer = lambda handler, _number: handler.say(429, b"", retry_after="7200")
    office.endpoint(hook.url)
    office.tell()
    office.run(lambda: office.states() == ["retrying"])
    (one,) = office.all()
    assert one.due_us > office.clock.now_us() + 7_190 * SECOND_US


def test_gone_disables_the_endpoint(office: Office, hook: Receiver) -> None:
    hook.answer = lambda handler, _number: handler.say(410)
    office.endpoint(hook.url)
    office.tell(3)
    office.settle()
    assert office.health().state == "disabled"
    assert "410" in office.health().reason
    assert office.states() == ["cancelled"] * 3
    heard = len(hook.heard)
    office.tell(2)
    office.settle()
    assert len(hook.heard) == heard


def test_a_huge_answer_is_cut(office: Office, hook: Receiver) -> None:
    def answer(handler: Handler, _number: int) -> None:
        handler.send_response(200)
        handler.send_header("content-length", str(1 << 40))
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    hook.answer = answer
    office.endpoint(hook.url)
    office.tell()
    began = time.monotonic()
    office.settle()
    assert time.monotonic() - began < 60
    (made,) = office.attempts()
    assert (made.outcome, len(made.text)) == ("delivered", 1024)


def test_a_body_that_never_ends_does_not_undo_the_status(office: Office, hook: Receiver) -> None:
    def answer(handler: Handler, _number: int) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        time.sleep(4)

    hook.answer = answer
    office.endpoint(hook.url)
    office.tell()
    office.settle()
    (made,) = office.attempts()
    assert (made.outcome, made.text) == ("delivered", "half")


def test_one_that_hangs_has_failed_in_time(office: Office, hook: Receiver) -> None:
    hook.answer = lambda _handler, _number: time.sleep(4)
    office.endpoint(hook.url)
    office.tell()
    office.run(lambda: office.states() == ["retrying"])
    (made,) = office.attempts()
    assert made.error == "no answer within 2 seconds"
    assert 1_900_000 < made.took_us < 4_000_000


def test_one_that_drips_has_failed_in_time(office: Office) -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 1000:
            connection.send(bytes([byte]))
            time.sleep(0.2)

    with raw_server(drip) as url:
        office.endpoint(url)
        office.tell()
        office.run(lambda: office.states() == ["retrying"])
    (made,) = office.attempts()
    assert made.error == "no answer within 2 seconds"
    assert made.took_us < 30_000_000


@pytest.mark.parametrize(
    "garbage", [b"hello\r\n\r\n", b"\x00\xff" * 100, b"", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n"]
)
def test_garbage_is_a_failed_attempt(office: Office, garbage: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(garbage)

    with raw_server(answer) as url:
        office.endpoint(url)
        office.tell()
        office.run(lambda: office.states() == ["retrying"])
    (made,) = office.attempts()
    assert made.outcome == "failed"
    assert made.code is None
    assert made.error


def test_a_refused_connection_is_a_failed_attempt(office: Office) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    office.endpoint(f"http://127.0.0.1:{port}/")
    office.tell()
    office.run(lambda: office.states() == ["retrying"])
    assert "refused" in office.attempts()[0].error


def test_a_name_without_an_address_is_a_failed_attempt(office: Office) -> None:
    office.endpoint("http://no-such-host.invalid/")
    office.tell()
    office.run(lambda: office.states() == ["retrying"], seconds=30)
    assert "name no-such-host.invalid" in office.attempts()[0].error


def test_endpoints_that_hang_delay_nobody_else(tmp_path: Path, hook: Receiver) -> None:
    office = Office(tmp_path, total_seconds=3.0, senders=8)
    with receiving(lambda _handler, _number: time.sleep(30)) as dead:
        for number in range(12):
            office.endpoint(dead.url, f"dead{number}")
        office.tell(2)
        office.run(
            lambda: all(one.state == "failing" for one in office.post.endpoints("t")), seconds=60
        )
        office.clock.ahead_us += 10 * SECOND_US  # all of them are due again
        office.run(lambda: office.sender.under_way == 4)
        office.endpoint(hook.url, "e1")
        office.tell(5)
        began = time.monotonic()
        office.run(lambda: len(hook.heard) == 5)
        assert time.monotonic() - began < 2.8, "before any of the hanging attempts has ended"
        assert office.sender.under_way <= 8
    office.engine.dispose()


def test_one_endpoint_is_tried_by_at_most_so_many_at_once(tmp_path: Path) -> None:
    office = Office(tmp_path, endpoint_senders=3)
    at_once, most, lock = 0, 0, threading.Lock()

    def answer(handler: Handler, _number: int) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        handler.say(200)

    with receiving(answer) as hook:
        office.endpoint(hook.url)
        office.tell(60)
        office.settle()
        assert len(hook.heard) == 60
    assert 2 <= most <= 3
    office.engine.dispose()


def test_both_secrets_sign_while_one_is_replaced(office: Office, hook: Receiver) -> None:
    hook.secrets.append(office.endpoint(hook.url))
    fresh = new_secret()
    now_us = office.clock.now_us()
    sealed = office.seal.close(fresh, secret_place("t", "e1"))
    change(office.post, "t", "e1", lambda one: rotated(one, sealed, now_us, 1), now_us)
    hook.secrets.append(fresh)
    office.tell()
    office.settle()
    assert hook.unverified == []
    assert len(hook.heard[0].headers["webhook-signature"].split(" ")) == 2
    office.clock.ahead_us = 3_600 * SECOND_US  # the overlap is over
    hook.secrets.clear()
    office.tell()
    office.settle()
    assert len(hook.heard[1].headers["webhook-signature"].split(" ")) == 1


def test_a_replay_has_the_same_id(office: Office, hook: Receiver) -> None:
    hook.secrets.append(office.endpoint(hook.url))
    office.tell()
    office.settle()
    (one,) = office.all()
    replay(office.post, "t", one.id, office.clock.now_us())
    office.settle()
    assert [heard.id for heard in hook.heard] == ["fact_00000"] * 2
    assert hook.unverified == []
    assert len(office.attempts()) == 2


def test_a_secret_that_cannot_be_opened_is_told_and_nothing_is_sent(
    office: Office, hook: Receiver
) -> None:
    office.endpoint(hook.url)
    office.sender = Sender(
        office.post, {"webhook": office.channel}, AesGcmSeal(b"o" * 32), office.clock, "n.x",
        office.bounds,
    )  # fmt: skip
    office.tell()
    office.run(lambda: office.states() == ["retrying"])
    assert "rotate it" in office.attempts()[0].error
    assert hook.heard == []


class Failing:
    """A channel that never arrives; it counts."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def check(self, address: str) -> str:
        return address

    def send(self, *said: Any) -> Answer:
        self.times.append(said[-1])
        return Answer(outcome="failed", error="nobody is there")


def test_three_days_of_failures_walk_the_schedule_to_its_end(tmp_path: Path) -> None:
    office = Office(tmp_path, disable_after_days=5)
    office.channel = Failing()
    office.sender = office.another()
    office.endpoint("https://example.com/")
    office.tell()
    office.settle()
    first_us = office.channel.times[0]
    while office.states() == ["retrying"]:
        (one,) = office.all()
        office.clock.ahead_us += one.due_us - office.clock.now_us()
        before = len(office.channel.times)
        office.run(lambda before=before: len(office.channel.times) > before)
        office.settle()
    (one,) = office.all()
    assert one.state == "given_up"
    assert one.attempts == len(office.channel.times) >= 6
    lasted_us = office.channel.times[-1] - first_us
    assert HORIZON_US <= lasted_us < HORIZON_US + DAY_US // 24
    assert office.health().state == "failing", "five days are not over"
    office.clock.ahead_us += 2 * DAY_US
    office.tell()
    office.run(lambda: office.health().state == "disabled")
    assert "nobody is there" in office.health().reason
    office.engine.dispose()


def test_two_senders_share_the_work_and_send_nothing_twice(tmp_path: Path, hook: Receiver) -> None:
    office = Office(tmp_path)
    hook.secrets.append(office.endpoint(hook.url))
    names = office.tell(150)
    senders = [office.sender, office.another()]

    def work(sender: Sender) -> None:
        end = time.monotonic() + 30
        while len(hook.heard) < 150 and time.monotonic() < end:
            if not sender.round():
                sender.wait(0.01)
        sender.finish(5)

    threads = [threading.Thread(target=work, args=(one,)) for one in senders]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert sorted(heard.id for heard in hook.heard) == names
    assert hook.unverified == []
    assert set(office.states()) == {"delivered"}
    office.engine.dispose()


def test_the_post_sends_while_it_forgets_and_ends_when_it_is_asked_to(
    tmp_path: Path, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much that is past its time is dropped in pieces, and what a killed sender held is told."""
    monkeypatch.setattr(run.os, "nice", lambda by: by)
    settings = Settings(data_dir=tmp_path, webhooks=WebhookSettings(allow_private=True))
    (tmp_path / "secret").write_bytes(b"s" * 32)
    world = World(settings)
    node = run.node_of(settings)
    old = tuple(_fact(f"old_{n}", n) for n in range(2_500))
    with world.post.writing() as transaction:
        transaction.put("t", Written(aside=old), 1)
    secret = new_secret()
    sealed = Secret(sealed=world.seal.close(secret, secret_place("t", "e1")), created_us=1)
    add(
        world.post,
        "t",
        Endpoint(id="e1", channel="webhook", address=hook.url, created_us=1, secrets=(sealed,)),
    )
    now_us = world.clock.now_us()
    with write(world.engine) as connection:
        add_facts(connection, "t", [_fact("new", now_us)])
    fan_out(world.post, now_us, 9)
    assert take(world.post, ("t", "e1"), now_us, 9, now_us + DAY_US, f"{node}.killed")
    assert run.forget(world) == run.FORGOTTEN_AT_ONCE
    stop = threading.Event()
    post = threading.Thread(target=run.run_post, args=(settings, stop))
    post.start()
    deadline = time.monotonic() + 30
    while not hook.heard or len(world.post.facts("t", 0, "", 3_000)) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stop.set()
    post.join(20)
    assert not post.is_alive()
    assert [one.state for one in world.post.deliveries("t", Asked())] == ["delivered"]
    world.engine.dispose()


def test_a_database_that_is_away_ends_no_post(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.os, "nice", lambda by: by)
    monkeypatch.setattr(run, "AWAY_SECONDS", 0.01)
    settings = Settings(data_dir=tmp_path)
    (tmp_path / "secret").write_bytes(b"s" * 32)
    World(settings).engine.dispose()
    rounds: list[int] = []
    stop = threading.Event()

    def away(_self: Sender) -> int:
        rounds.append(1)
        if len(rounds) == 3:
            stop.set()
        raise Unavailable("the database is away")

    monkeypatch.setattr(Sender, "round", away)
    run.run_post(settings, stop)
    assert len(rounds) == 3


def _fact(name: str, at_us: int) -> Fact:
    return Fact(id=name, kind="invoice.paid", subject="s", customer="c", at_us=at_us, body="{}")
