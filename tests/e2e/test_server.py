"""`tallybook serve` from outside: one process tree, one folder, one key, the whole road."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from pypdf import PdfReader

from tallybook.serve.supervisor.folder import is_locked, read_info
from tests.e2e.server import KEY, Server, asked, visiting, workers

ROOT = Path(__file__).parents[2]
CATALOG = ROOT / "src/tallybook/serve/cli/sample_catalog.toml"
AUTH = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("serve") / "data", workers(2)) as running:
        yield running


@pytest.fixture(scope="module")
def billed(server: Server) -> str:
    """The number of an invoice over ten requests of 127.0.0.1 and one broken line."""
    server.command("apply", str(CATALOG), "--yes")
    events = [
        {
            "specversion": "1.0",
            "id": f"r{i}",
            "source": "test",
            "type": "http.server.request",
            "subject": "127.0.0.1",
            "data": {"bytes": 100 + i, "status": 200 if i % 2 else 404, "method": "GET"},
        }
        for i in range(10)
    ]
    broken = {"id": "lost", "source": "test", "specversion": "1.0", "data": {"bytes": 1}}
    body = json.dumps([*events, *events[:3], broken])
    server.post("/api/v1/events?partial=true", body)
    server.caught_up()
    made = server.command("bill", "--until", "now", "--json")
    return str(json.loads(made.stdout)["invoices"][0]["number"])


def run(server: Server, *command: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run a command against the server and check how it ends."""
    found = subprocess.run(
        [sys.executable, "-m", "tallybook", *command],
        env={**os.environ, "TALLYBOOK_URL": server.url, "TALLYBOOK_KEY": KEY, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == code, found.stdout + found.stderr
    return found


def get(server: Server, path: str, **kwargs: Any) -> httpx2.Response:
    return asked("GET", server.url + path, headers={**AUTH, **kwargs.pop("headers", {})}, **kwargs)


# ---------------------------------------------------------------- the road


def test_usage_is_what_was_sent(server: Server, billed: str) -> None:
    found = get(server, "/api/v1/meters/bytes-served/query").json()
    assert [row["value"] for row in found["data"]] == [sum(range(100, 110))]
    text = server.command("usage", "requests", "--group-by", "status").stdout
    assert "404" in text
    assert "5" in text
    csv = server.command("usage", "requests", "--group-by", "status", "--csv").stdout.splitlines()
    assert csv[0] == "window_start,window_end,subject,status,value"
    assert [line.rsplit(",", 2)[1:] for line in csv[1:]] == [["200", "5"], ["404", "5"]]


def test_an_invoice_explains_itself_and_verifies(server: Server, billed: str) -> None:
    shown = json.loads(server.command("invoice", "show", billed, "--json").stdout)
    line = next(line for line in shown["lines"] if line["charge"] == "requests")
    explained = server.command("invoice", "explain", billed, "--line", str(line["position"])).stdout
    assert "10 events, as billed" in explained
    assert "r9" in explained
    assert "verified" in server.command("invoice", "verify", billed).stdout
    assert "accounted for" in server.command("reconcile").stdout
    assert billed in server.command("invoice", "list").stdout


def test_the_document_is_rendered_once(server: Server, billed: str, tmp_path: Path) -> None:
    file = tmp_path / "invoice.pdf"
    server.command("invoice", "pdf", billed, "-o", str(file))
    assert billed in "".join(page.extract_text() for page in PdfReader(file).pages)
    again = get(server, f"/api/v1/invoices/{billed}.pdf")
    assert again.content == file.read_bytes()
    assert again.headers["content-type"] == "application/pdf"


def test_events_tell_which_meters_they_touched(server: Server, billed: str) -> None:
    found = get(server, "/api/v1/events?id=r3").json()["items"]
    assert [(touch["meter"], touch["value"]) for touch in found[0]["meters"]] == [
        ("bytes-served", "103"),
        ("requests", "1"),
    ]


def test_quarantine_is_listed_corrected_and_counted(server: Server, billed: str) -> None:
    listed = json.loads(server.command("quarantine", "list", "--json").stdout)["items"]
    assert [piece["code"] for piece in listed] == ["missing-attribute"]
    name = listed[0]["id"]
    refused = json.loads(server.command("quarantine", "redrive", name, "--json", code=1).stdout)
    assert refused[0]["code"] == "missing-attribute"
    body = {"event": {"type": "x.corrected", "data": {"n": 1}}, "reason": "type added"}
    path = f"/api/v1/quarantine/{name}/redrive"
    done = asked("POST", server.url + path, json=body, headers=AUTH)
    assert done.json()["state"] == "redriven", done.text
    assert asked("POST", server.url + path, json=body, headers=AUTH).status_code == 409
    server.caught_up()
    assert get(server, "/api/v1/events?id=lost").json()["items"][0]["type"] == "x.corrected"


def test_a_job_can_be_watched(server: Server, billed: str) -> None:
    runs = get(server, "/api/v1/billing-runs").json()["items"]
    assert runs[0]["state"] == "done"
    assert runs[0]["result"]["invoices"] == 1
    answer = asked("POST", server.url + "/api/v1/billing-runs", json={}, headers=AUTH)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


# ---------------------------------------------------------------- the gate


DOORS = {"/v1/metrics", "/api/v1/write", "/api/v2/write", "/write", "/api/v1/logs"}
"""They answer in the words of their own protocols; tests/e2e/test_front_doors.py reads those."""
FOREIGN = ("/v1/billing/", "/v2/billing/", "/api/v1/events/")
"""They answer in the words of Stripe and Lago; tests/e2e/test_compat_clients.py reads those."""


def test_without_a_key_nothing_is_read_or_written(server: Server) -> None:
    paths = get(server, "/openapi.json").json()["paths"]
    free = {"/health/live", "/health/ready", "/metrics"}
    walked = 0
    with visiting() as nobody:
        for path, methods in paths.items():
            for method in methods:
                for headers in ({}, {"Authorization": "Bearer tb_not_a_key_that_anyone_made"}):
                    url = server.url + path.replace("{", "").replace("}", "")
                    answer = nobody.request(method.upper(), url, headers=headers, content=b"{}")
                    expected = 200 if path in free else 401
                    assert answer.status_code == expected, f"{method} {path}"
                    walked += 1
                    if expected == 401 and path not in DOORS and not path.startswith(FOREIGN):
                        by_certificate = path.endswith("/certificates/renew")
                        code = "certificate-needed" if by_certificate else "no-key"
                        assert answer.json()["code"] == code
                        assert answer.headers["content-type"] == "application/problem+json"
    assert walked > 60


def test_a_key_does_what_its_scopes_say(server: Server, billed: str) -> None:
    made = server.post("/api/v1/keys", '{"name": "reader", "scopes": ["read"]}')
    reader = {"Authorization": f"Bearer {made['key']}"}
    server.known(made["key"])
    for path, body in (("/api/v1/events", []), ("/api/v1/keys", {}), ("/api/v1/customers", {})):
        assert asked("POST", server.url + path, json=body, headers=reader).status_code == 403
    server.raw("DELETE", f"/api/v1/keys/{made['id']}")
    server.known(made["key"], known=False)
    assert asked("GET", server.url + "/api/v1/meters", headers=reader).status_code == 401


def test_an_idempotency_key_gives_the_first_answer_again(server: Server) -> None:
    headers = {**AUTH, "Idempotency-Key": "one"}
    url, body = server.url + "/api/v1/customers", {"key": "once", "currency": "USD"}
    first = asked("POST", url, json=body, headers=headers)
    assert first.status_code == 201
    again = asked("POST", url, json=body, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    other = asked("POST", url, json={**body, "name": "other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")


def test_answers_keep_browsers_careful(server: Server) -> None:
    for path in ("/health/live", "/login", "/api/v1/meters", "/no-such-page"):
        headers = asked("GET", server.url + path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]


def test_the_first_key_is_private_and_never_logged(server: Server) -> None:
    for name in ("first-key", "secret", "server.json"):
        assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600
    for log in server.folder.glob("*.log"):
        assert KEY not in log.read_text()


def test_metrics_show_nothing_of_a_tenant(server: Server, billed: str) -> None:
    text = asked("GET", server.url + "/metrics").text
    assert 'tallybook_events_behind{partition="0"} 0.0' in text
    for word in ("example", "127.0.0.1", "requests", "default"):
        assert word not in text


# ---------------------------------------------------------------- the console


def test_pages_need_a_session_and_forms_a_token(server: Server, billed: str) -> None:
    with visiting(base_url=server.url) as browser:
        sent = browser.get("/invoices")
        assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Finvoices")
        assert browser.post("/login", data={"key": "tb_wrong"}).status_code == 401
        foreign = {"Origin": "http://elsewhere.example"}
        assert browser.post("/login", data={"key": KEY}, headers=foreign).status_code == 403
        entered = browser.post("/login", data={"key": KEY, "next": "//elsewhere.example"})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert browser.get("/invoices").status_code == 200
        assert browser.post("/invoices/bill", data={"token": "guessed"}).status_code == 403
        browser.cookies.clear()
        browser.cookies.set("tallybook_session", cookie.split("=", 1)[1].split(";")[0] + "0")
        assert browser.get("/invoices").status_code == 303


def test_every_page_renders(server: Server, billed: str) -> None:
    with visiting(base_url=server.url) as browser:
        browser.post("/login", data={"key": KEY})
        piece = get(server, "/api/v1/quarantine?state=all").json()["items"][0]["id"]
        lines = get(server, f"/api/v1/invoices/{billed}").json()["lines"]
        place = {line["charge"]: line["position"] for line in lines}
        for path, text in {
            "/": "Recent events",
            "/meters": "Bytes served",
            "/meters/requests?by=status": "404",
            "/meters/memory": "Nothing measured yet",
            "/customers": "Example Ltd.",
            "/invoices": billed,
            f"/invoices/{billed}?check=1": "byte for byte the same",
            f"/invoices/{billed}/lines/{place['bytes']}": "the very events",
            f"/invoices/{billed}/lines/{place['base']}": "How it came about",
            "/quarantine?show=all": "missing-attribute",
            f"/quarantine/{piece}": "As it was received",
            "/static/console.css": "--accent",
        }.items():
            page = browser.get(path)
            assert page.status_code == 200, path
            assert text in page.text, path
            assert "<script" not in page.text
        assert browser.get(f"/invoices/{billed}.pdf").content[:5] == b"%PDF-"
        assert browser.get("/invoices/INV-999999").status_code == 404


# ---------------------------------------------------------------- the command line


def test_commands_end_with_the_code_of_their_outcome(server: Server, tmp_path: Path) -> None:
    assert "not-found" in run(server, "usage", "no-such-meter", code=1).stderr
    run(server, "usage", code=2)
    run(server, "bill", code=2)
    refused = run(server, "usage", "x", "--url", "http://127.0.0.1:9", "--json", code=3)
    assert json.loads(refused.stderr)["code"] == "unavailable"
    broken = tmp_path / "catalog.toml"
    broken.write_text("[[meters]]\nkey = 'x'\n")
    assert "event_type" in run(server, "apply", str(broken), code=1).stderr


def test_apply_shows_and_is_idempotent(server: Server, billed: str, tmp_path: Path) -> None:
    assert "nothing to change" in run(server, "apply", str(CATALOG)).stdout
    file = tmp_path / "catalog.toml"
    file.write_text('[[meters]]\nkey = "logins"\nevent_type = "app.login"\naggregation = "COUNT"\n')
    assert "+ meter logins" in run(server, "apply", str(file), "--diff").stdout
    assert "not-confirmed" in run(server, "apply", str(file), code=1).stderr
    run(server, "apply", str(file), "--yes")
    assert "nothing to change" in run(server, "apply", str(file), "--yes").stdout


def test_a_command_finds_the_running_server_of_a_folder(server: Server, billed: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tallybook", "invoice", "list", "--data", str(server.folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert billed in found.stdout, found.stderr


def test_doctor_is_content(server: Server) -> None:
    found = json.loads(run(server, "doctor", "--data", str(server.folder), "--json").stdout)
    assert found["ok"], found


# ---------------------------------------------------------------- the process tree


def test_a_second_server_is_refused(server: Server) -> None:
    found = run(server, "serve", "--data", str(server.folder), "--port", "0", code=1)
    assert f"another server already works on {server.folder}" in found.stderr
    assert server.url in found.stderr
    port = server.url.rpartition(":")[2]
    other = run(server, "serve", "--data", str(server.folder) + "-2", "--port", port, code=3)
    assert port in other.stderr
    assert get(server, "/api/v1/status").json()["counters"], "the first goes on"


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = ["serve", "--data", str(tmp_path / "d"), "--port", port]
        found = subprocess.run(
            [sys.executable, "-m", "tallybook", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert found.returncode == 3
    assert f"port {port} of 127.0.0.1 cannot be used" in found.stderr
    assert not is_locked(tmp_path / "d")


def test_an_unusable_folder_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    found = subprocess.run(
        [sys.executable, "-m", "tallybook", "serve", "--data", str(file), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 3
    assert f"the data folder {file} cannot be used" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_child_that_dies_is_started_again(server: Server) -> None:
    pump = next(child for child in server.children() if child["kind"] == "pump")
    os.kill(pump["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        info = read_info(server.folder)
        now = [c for c in info.children if c.kind == "pump"] if info else []
        if now and now[0].restarts == 1 and psutil.pid_exists(now[0].pid):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the pump did not come back")
    server.caught_up()


def test_a_killed_supervisor_takes_everything_with_it(tmp_path: Path) -> None:
    running = Server(tmp_path / "data")
    running.start()
    children = [psutil.Process(child["pid"]) for child in running.children()]
    assert len(children) >= 3

    os.kill(running.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=30)

    assert alive == []
    assert not is_locked(running.folder)
    assert not running.alive()
    running.start()
    with visiting(base_url=running.url, headers=AUTH) as client:
        assert client.get("/api/v1/status").status_code == 200
    running.__exit__()
    assert not is_locked(running.folder)
    assert read_info(running.folder) is None


def test_a_folder_without_a_server_gets_one_for_a_command(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [
        sys.executable,
        "-m",
        "tallybook",
        "apply",
        str(CATALOG),
        "--yes",
        "--data",
        str(data),
    ]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    assert "+ plan everything" in found.stdout
    assert not is_locked(data)
    assert (data / "first-key").read_text().strip() not in (data / "private-server.log").read_text()
