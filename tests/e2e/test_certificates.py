"""Edges with certificates against a real server: whoever is wrong is refused, and told why."""

import base64
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tallybook.adapters.http.client import Client
from tallybook.adapters.http.sender import HttpEventSender, ZstdPacking
from tallybook.adapters.x509 import authority as x509
from tallybook.adapters.x509.request import key_pem, new_key
from tallybook.collect.ports import Receipt
from tallybook.collect.sending.parcel import Parcel
from tallybook.kernel.errors import Forbidden, Refused, TallybookError, Unavailable
from tallybook.serve.agent.outbound.renewing import validity
from tallybook.serve.cli.main import run
from tallybook.serve.supervisor.folder import read_info
from tests.e2e.server import KEY, Server

DAY_US = 86_400_000_000
PACKING = ZstdPacking()
ENV = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}


class Done(NamedTuple):
    """What a command of this process printed."""

    stdout: str
    stderr: str


def tallybook(*arguments: str | Path, code: int = 0) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        found = run([str(argument) for argument in arguments])
    assert found == code, err.getvalue() + out.getvalue()
    return Done(out.getvalue(), err.getvalue())


def agent(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tallybook", "edge", "run", *map(str, arguments)],
        env=ENV, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip


class Fleet:
    """A server with an authority, and edges in folders."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        info = read_info(server.folder)
        assert info is not None
        assert info.tls_url is not None
        self.url = info.tls_url.replace("127.0.0.1", "localhost")
        self.sent = 0

    def issue(self, edge: str) -> Path:
        tallybook("ca", "issue", edge, "--data", self.server.folder, "--out", self.folder / edge)
        return self.folder / edge

    def forge(self, edge: str, authority: x509.Authority, tenant: str = "default",
              since_days: int = 0, days: int = 30) -> Path:  # fmt: skip
        """Make a certificate that the command would not make."""
        target, key = self.folder / f"forged-{edge}-{time.monotonic_ns()}", new_key()
        now_us = time.time_ns() // 1000 - since_days * DAY_US
        issued = authority.issue_edge(tenant, edge, key.public_key(), now_us, days)
        x509.write_closed(target / "edge.key", key_pem(key))
        x509.write_open(target / "edge.pem", issued.cert)
        x509.write_open(target / "ca.pem", (self.server.folder / "ca" / "ca.pem").read_bytes())
        return target

    def authority(self) -> x509.Authority:
        return x509.Authority(self.server.folder / "ca")

    def client(self, files: Path, url: str | None = None) -> Client:
        cert = (str(files / "edge.pem"), str(files / "edge.key"))
        return Client(url or self.url, KEY, verify=str(files / "ca.pem"), cert=cert)

    def send(self, client: Client, edge: str = "web-1") -> Receipt:
        self.sent += 1
        event = {"specversion": "1.0", "id": f"{edge}-{self.sent}", "source": "s", "type": "t"}
        payload = PACKING.pack([json.dumps(event).encode()])
        parcel = Parcel(edge=edge, incarnation="test", number=self.sent)
        return HttpEventSender(client).send(payload, 1, parcel)

    def refused(self, files: Path, edge: str = "web-1") -> TallybookError:
        with self.client(files) as client, pytest.raises(TallybookError) as refused:
            self.send(client, edge)
        return refused.value


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    tallybook("ca", "init", "--data", folder / "data")
    with Server(folder / "data", {"TALLYBOOK__TLS__PORT": "0"}) as server:
        yield Fleet(folder, server)


def test_a_certified_edge_is_let_in_and_seen(fleet: Fleet) -> None:
    with fleet.client(fleet.issue("web-1")) as client:
        assert fleet.send(client) == Receipt(stored=1)
        assert fleet.send(client) == Receipt(stored=1)
    with Client(fleet.server.url, KEY) as client:
        seen = eventually(lambda: client.get("/api/v1/edges/web-1"))
    assert seen["certified"] is True
    assert seen["certificate"]["revoked_time"] is None
    assert seen["state"] == "live"


def test_large_batches_and_one_connection_for_many(fleet: Fleet) -> None:
    files = fleet.issue("web-10")
    pad = "x" * 900
    with fleet.client(files) as client:
        for batch in range(5):
            events = [
                {"specversion": "1.0", "id": f"{batch}-{n}", "source": "big", "type": "t",
                 "data": {"pad": pad, "n": n}}
                for n in range(3000)
            ]  # fmt: skip
            answer = client.raw(
                "POST", "/api/v1/events", content=json.dumps(events).encode(),
                headers={"Content-Type": "application/cloudevents-batch+json"},
            )  # fmt: skip
            assert answer.status == 204
            assert client.get("/api/v1/meters")["items"] is not None


def test_the_files_of_the_authority_are_closed(fleet: Fleet) -> None:
    folder = fleet.server.folder / "ca"
    for name in ("ca.key", "server.key"):
        assert (folder / name).stat().st_mode & 0o077 == 0


def test_nobody_without_a_certificate_gets_in(fleet: Fleet) -> None:
    ca = str(fleet.server.folder / "ca" / "ca.pem")
    with Client(fleet.url, KEY, verify=ca) as client, pytest.raises(Unavailable) as refused:
        fleet.send(client)
    assert "certificate required" in refused.value.message.lower().replace("_", " ")


def test_a_certificate_of_another_authority_is_refused(fleet: Fleet) -> None:
    other = x509.found(fleet.folder / "other", "somebody", time.time_ns() // 1000)
    error = fleet.refused(fleet.forge("web-1", other))
    assert isinstance(error, Unavailable)  # an operator may put it right: nothing is given up
    assert "unknown ca" in error.message.lower().replace("_", " ")
    eventually(lambda: "self-signed" in said(fleet) or "unable to get" in said(fleet))


def test_an_expired_certificate_is_refused(fleet: Fleet) -> None:
    files = fleet.forge("web-1", fleet.authority(), since_days=40)

    def told() -> bool:  # a reset may overtake the alert
        return "certificate expired" in fleet.refused(files).message.lower().replace("_", " ")

    eventually(told)
    eventually(lambda: "certificate has expired" in said(fleet))


def test_a_revoked_certificate_is_refused_also_on_an_open_connection(fleet: Fleet) -> None:
    files = fleet.issue("web-2")
    with fleet.client(files) as client:
        assert fleet.send(client, "web-2") == Receipt(stored=1)
        tallybook("ca", "revoke", "web-2", "--data", fleet.server.folder, "--reason", "stolen")

        def refused() -> str:
            try:
                fleet.send(client, "web-2")
            except Forbidden as error:
                return error.code
            return ""

        assert eventually(refused) == "certificate-revoked"
    listed = json.loads(tallybook("ca", "list", "--data", fleet.server.folder, "--json").stdout)
    assert [c["state"] for c in listed if c["name"] == "web-2"] == ["revoked"]
    shown = subprocess.run(
        ["openssl", "crl", "-in", fleet.server.folder / "ca" / "crl.pem", "-text", "-noout"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if shown.returncode == 0:
        serial = next(c["serial"] for c in listed if c["name"] == "web-2")
        assert serial in shown.stdout


def test_a_certificate_speaks_for_its_own_edge_and_tenant_only(fleet: Fleet) -> None:
    error = fleet.refused(fleet.issue("web-3"), edge="web-4")
    assert error.code == "certificate-name"
    assert "web-3" in error.message
    stranger = fleet.forge("web-3", fleet.authority(), tenant="other")
    assert fleet.refused(stranger, edge="web-3").code == "certificate-name"
    # whichever way the key is shown that a door takes
    basic = base64.b64encode(f"any:{KEY}".encode()).decode()
    shown: list[dict[str, str]] = [
        {"Authorization": f"Basic {basic}"},
        {"Authorization": f"Token {KEY}"},
        {"Authorization": "", "X-Api-Key": KEY},
    ]
    with fleet.client(stranger) as client:
        for headers in shown:
            with pytest.raises(Forbidden) as refused:
                client.raw("POST", "/api/v2/write", content=b"m v=1 1", headers=headers)
            assert refused.value.code == "certificate-name", headers


def test_the_servers_own_certificate_is_no_edge(fleet: Fleet) -> None:
    folder = fleet.folder / "as-server"
    folder.mkdir()
    for name in ("ca.pem", "server.pem", "server.key"):
        content = (fleet.server.folder / "ca" / name).read_bytes()
        (folder / name.replace("server", "edge")).write_bytes(content)
    assert isinstance(fleet.refused(folder), Unavailable)


def test_an_edge_refuses_a_server_under_another_name(fleet: Fleet) -> None:
    files = fleet.issue("web-5")
    wrong = fleet.url.replace("localhost", "127.0.0.2")
    server = fleet.url.rpartition(":")[2]
    with (
        fleet.client(files, f"https://localhost.localdomain:{server}") as client,
        pytest.raises(Unavailable),
    ):
        fleet.send(client, "web-5")
    with fleet.client(files, wrong) as client, pytest.raises(Unavailable):
        fleet.send(client, "web-5")
    other = x509.found(fleet.folder / "other-ca", "somebody", time.time_ns() // 1000)
    (files / "ca.pem").write_bytes(other.cert)
    with fleet.client(files) as client, pytest.raises(Unavailable) as refused:
        fleet.send(client, "web-5")
    assert "certificate verify failed" in refused.value.message


def test_renewal_gives_a_new_key_and_only_under_the_present_certificate(fleet: Fleet) -> None:
    with Client(fleet.server.url, KEY) as client, pytest.raises(Refused) as refused:
        client.post("/api/v1/edges/certificates/renew", {})
    assert refused.value.code == "certificate-needed"
    with fleet.client(fleet.issue("web-6")) as client:
        same = client.post("/api/v1/edges/certificates/renew", {})
        with pytest.raises(Refused) as refused:
            client.post("/api/v1/edges/certificates/renew", {"csr": "nonsense"})
    assert refused.value.field == "csr"
    files = fleet.folder / "web-6"
    (files / "edge.pem").write_text(same["certificate"])
    with fleet.client(files) as client:
        assert fleet.send(client, "web-6") == Receipt(stored=1)


def test_an_agent_renews_in_time_without_a_restart(fleet: Fleet, tmp_path: Path) -> None:
    files = fleet.forge("web-7", fleet.authority(), since_days=28)
    before = {name: (files / name).read_bytes() for name in ("edge.pem", "edge.key")}
    config = tmp_path / "edge.toml"
    config.write_text(
        f'url = "{fleet.url}"\nkey = "{KEY}"\nedge = "web-7"\nstate = "{tmp_path / "state"}"\n'
        f'ca_file = "{files / "ca.pem"}"\ncert_file = "{files / "edge.pem"}"\n'
        f'cert_key_file = "{files / "edge.key"}"\ninterval_seconds = 0.2\n'
    )
    done = agent("--config", config, "--for", "2s")
    assert "certificate: renewed" in done.stderr
    after = {name: (files / name).read_bytes() for name in before}
    assert after["edge.pem"] != before["edge.pem"]
    assert after["edge.key"] != before["edge.key"]
    assert (files / "edge.key").stat().st_mode & 0o077 == 0
    assert validity(files / "edge.pem")[1] > time.time() + 25 * 86_400
    assert sorted(path.name for path in files.iterdir()) == ["ca.pem", "edge.key", "edge.pem"]
    again = agent("--config", config, "--for", "0")
    assert "renewed" not in again.stderr


def test_the_listener_takes_up_its_own_new_certificate(fleet: Fleet) -> None:
    files = fleet.issue("web-8")
    tallybook("ca", "renew", "--server", "--data", fleet.server.folder, "--host", "localhost",
              "--host", "127.0.0.2")  # fmt: skip
    there = fleet.url.replace("localhost", "127.0.0.1")

    def refused() -> bool:
        with fleet.client(files, there) as client:
            try:
                fleet.send(client, "web-8")
            except Unavailable:
                return True
        return False

    eventually(refused)
    with fleet.client(files) as client:
        assert fleet.send(client, "web-8") == Receipt(stored=1)
    tallybook("ca", "renew", "--server", "--data", fleet.server.folder, "--host", "localhost",
              "--host", "127.0.0.1")  # fmt: skip
    eventually(lambda: not refused())


def test_commands_refuse_what_would_lock_edges_out(fleet: Fleet) -> None:
    data = fleet.server.folder
    assert "already" in tallybook("ca", "init", "--data", data, code=1).stderr
    nobody = tallybook("ca", "revoke", "nobody", "--data", data, code=1)
    assert "no good certificate" in nobody.stderr
    assert "cannot name" in tallybook("ca", "issue", "rules", "--data", data, code=1).stderr
    empty = fleet.folder / "empty"
    empty.mkdir()
    out = tallybook("ca", "issue", "x", "--data", empty, "--out", fleet.folder / "x", code=1)
    assert "no authority" in out.stderr


def said(fleet: Fleet) -> str:
    return fleet.server.log.read_text()


def eventually(look: Any) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            found = look()
        except Refused:
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
