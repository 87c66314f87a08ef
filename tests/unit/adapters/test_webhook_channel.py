"""Where webhooks may go, whom they trust, and what an answer means."""

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook

from tallybook.adapters.sealing.aesgcm import AesGcmSeal
from tallybook.adapters.webhook import network
from tallybook.adapters.webhook.channel import WebhookChannel, answer_of, checked_url, retry_after
from tallybook.adapters.webhook.guard import is_public
from tallybook.adapters.webhook.signing import new_secret, signed_headers
from tallybook.deliver.delivery import Answer
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Corrupt, Invalid
from tests.support.receiver import receiving

FACT = Fact(id="fact_1", kind="invoice.paid", subject="s", customer="c", at_us=1, body="{}")
NOW = 1_795_000_000_000_000


def send(channel: WebhookChannel, url: str) -> Answer:
    return channel.send(url, FACT, b"{}", [new_secret()], NOW)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255",
        "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16",
        "192.0.0.192", "198.18.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255", "240.0.0.1",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::1", "2001:db8::1",
        "fec0::1", "3fff::1", "5f00::1", "::8.8.8.8", "fe80::5efe:808:808", "64:ff9b:1::808:808",
        "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1", "2002:808:808::5efe:a00:1",
        "2001:0:a00:1::f7f7:f7f7", "2001:0:808:808::80ff:fffe", "100::1",
    ],
)  # fmt: skip
def test_no_address_of_a_network_behind_the_server_is_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101",
     "2002:808:808::1", "2606:4700::5efe:808:808"],
)  # fmt: skip
def test_the_internet_is_public(address: str):
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "0177.0.0.1",
     "[::ffff:127.0.0.1]"],
)  # fmt: skip
def test_the_loopback_is_refused_however_it_is_written(host: str):
    with receiving() as hook:
        port = hook.url.rpartition(":")[2].partition("/")[0]
        channel = WebhookChannel(allow_private=False)
        answer = send(channel, f"https://{host}:{port}/")
        assert answer.outcome == "failed"
        assert "not a public address" in answer.error or "no address" in answer.error
        assert hook.heard == []


def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch):
    def inside(*_said: Any, **_more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))]

    monkeypatch.setattr(network.socket, "getaddrinfo", inside)
    answer = send(WebhookChannel(), "https://looks.harmless.example/")
    assert "not a public address" in answer.error


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
):
    real, asked = socket.getaddrinfo, []

    def rebinding(host: str, *said: Any, **more: Any) -> Any:
        asked.append(host)
        answers = ["127.0.0.1", "10.255.255.1"]  # what a second question would lead to
        numeric = host.replace(".", "").isdecimal()
        return real(host if numeric else answers[asked.count(host) - 1], *said, **more)

    monkeypatch.setattr(network.socket, "getaddrinfo", rebinding)
    with receiving() as hook:
        answer = send(
            WebhookChannel(allow_private=True), hook.url.replace("127.0.0.1", "rebinding.example")
        )
        assert answer.outcome == "delivered"
        assert hook.heard[0].headers["host"].startswith("rebinding.example")
    assert asked.count("rebinding.example") == 1


def test_a_name_server_that_hangs_ends_in_time(monkeypatch: pytest.MonkeyPatch):
    hang = threading.Event()
    monkeypatch.setattr(network.socket, "getaddrinfo", lambda *_a, **_k: hang.wait(30))
    channel = WebhookChannel(allow_private=True, total_seconds=0.5)
    answer = send(channel, "http://slow.example/")
    assert "was not found in time" in answer.error
    hang.set()


def test_a_name_server_that_hangs_holds_nobody_elses_name_up(monkeypatch: pytest.MonkeyPatch):
    """It holds one thread for each of its names, however often they are asked for."""
    hang, asked = threading.Event(), []
    real = socket.getaddrinfo

    def answering(host: str, *said: Any, **more: Any) -> Any:
        asked.append(host)
        if host.startswith("slow"):
            hang.wait(30)
        return real("127.0.0.1", *said, **more)

    monkeypatch.setattr(network.socket, "getaddrinfo", answering)
    lookups = network.Lookups()
    for at in range(120):
        with pytest.raises(network.httpcore2.ConnectTimeout, match="was not found in time"):
            lookups.addresses(f"slow{at % 40}.example", 443, 0.001)
    assert lookups.addresses("quick.example", 443, 5.0) == ["127.0.0.1"]
    assert asked.count("slow0.example") == 1
    monkeypatch.setattr(network, "LOOKUPS_MAX", 40)
    with pytest.raises(network.httpcore2.ConnectTimeout, match="cannot be looked up now"):
        lookups.addresses("further.example", 443, 5.0)
    hang.set()


def test_what_goes_wrong_with_a_name_is_told_to_who_asked(monkeypatch: pytest.MonkeyPatch):
    lookups = network.Lookups()

    def broken(*_said: Any, **_more: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(network.socket, "getaddrinfo", broken)
    for _ in range(2):  # each who asks has an answer of its own
        with pytest.raises(network.httpcore2.ConnectError, match="has no address"):
            lookups.addresses("nowhere.example", 443, 5.0)

    def no_thread(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(network.threading.Thread, "start", no_thread)
    for _ in range(2):
        with pytest.raises(network.httpcore2.ConnectTimeout, match="cannot be looked up now"):
            lookups.addresses("nowhere.example", 443, 5.0)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://example.com/", "https://", "https:///x", "https://a b/", "https://exämple.com/",
     "https://user:pw@example.com/", "https://example.com/#x", "https://example.com:99999/",
     "https://example.com/" + "x" * 2048, "http://example.com/", "example.com", "file:///etc/x"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(Invalid):
        WebhookChannel().check(url)


def test_addresses_are_kept_as_they_are():
    assert WebhookChannel().check("https://example.com:8443/a?b=c") == (
        "https://example.com:8443/a?b=c"
    )
    assert checked_url("http://10.0.0.1/", plain=True) == "10.0.0.1"
    assert WebhookChannel(allow_private=True).check("http://10.0.0.1/") == "http://10.0.0.1/"
    for inside in ("https://10.0.0.1/", "https://[::1]/"):
        with pytest.raises(Invalid, match="not a public address"):
            WebhookChannel().check(inside)


def test_plain_http_that_was_kept_under_other_settings_is_not_used():
    with receiving() as hook:
        answer = send(WebhookChannel(), hook.url)
        assert answer.outcome == "failed"
        assert hook.heard == []


@contextlib.contextmanager
def tls_server(folder: Path, name: str) -> Iterator[str]:
    """Run a TLS server with a certificate for a name; yield its URL."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.fromtimestamp(NOW // 1_000_000, dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=3650))
        .not_valid_after(now + dt.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(plain, server_side=True) as s,
                ):
                    heard = s.recv(65536)
                    while heard and not heard.endswith(b"\r\n\r\n{}"):
                        heard += s.recv(65536)  # what is closed before all is read, is reset
                    s.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    yield f"https://localhost:{listener.getsockname()[1]}/"
    listener.close()


def test_certificates_are_verified(tmp_path: Path):
    with tls_server(tmp_path, "localhost") as url:
        wrong = send(WebhookChannel(allow_private=True), url)
        assert wrong.outcome == "failed"
        assert "CERTIFICATE_VERIFY_FAILED" in wrong.error
        trusting = WebhookChannel(allow_private=True, ca_file=tmp_path / "cert.pem")
        assert send(trusting, url) == Answer(outcome="delivered", code=204)


def test_a_certificate_for_another_name_is_refused(tmp_path: Path):
    with tls_server(tmp_path, "else.example") as url:
        trusting = WebhookChannel(allow_private=True, ca_file=tmp_path / "cert.pem")
        assert "match" in send(trusting, url).error


def test_a_file_of_certificates_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(Invalid):
        WebhookChannel(ca_file=tmp_path / "none.pem")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", None), ("soon", None), ("120", 120), (" 0 ", 0), ("-5", None), ("9" * 40, 999_999_999),
     ("Thu, 01 Jan 1970 00:00:09 GMT", 4), ("Thu, 01 Jan 1970 00:00:09", 4),
     ("Thu, 01 Jan 1970 00:00:01 GMT", 0)],
)  # fmt: skip
def test_retry_after(text: str, seconds: int | None):
    assert retry_after(text, 5_000_000) == (None if seconds is None else seconds * 1_000_000)


def test_what_a_status_means():
    assert answer_of(200, {}, "ok", NOW) == Answer(outcome="delivered", code=200, text="ok")
    assert answer_of(410, {}, "", NOW).outcome == "gone"
    assert answer_of(503, {"retry-after": "7"}, "", NOW).retry_after_us == 7_000_000
    assert "redirects" in answer_of(302, {"location": "x"}, "", NOW).error


def test_signatures_verify_with_the_standards_library(monkeypatch: pytest.MonkeyPatch):
    import time

    old, new = new_secret(), new_secret()
    assert len(new) == len("whsec_") + 44
    body = '{"ü":1}'.encode()
    headers = signed_headers("fact_1", body, [new, old], int(time.time()))  # noqa: TID251
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers) == {"ü": 1}
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(new_secret()).verify(body, headers)


def test_a_sealed_secret_opens_at_its_place_alone():
    seal = AesGcmSeal(b"s" * 32)
    closed = seal.close("whsec_x", "endpoint/t/e1")
    assert "whsec" not in closed
    assert seal.close("whsec_x", "endpoint/t/e1") != closed
    assert seal.open(closed, "endpoint/t/e1") == "whsec_x"
    wrongs = [(closed, "endpoint/t/e2"), (closed[:-6] + "AAAA==", "endpoint/t/e1"), ("v1.?", "x"),
              ("", "x")]  # fmt: skip
    for wrong, place in wrongs:
        with pytest.raises(Corrupt):
            seal.open(wrong, place)
    with pytest.raises(Corrupt):
        AesGcmSeal(b"o" * 32).open(closed, "endpoint/t/e1")
