"""Whoever may write to the control database alone cannot hide it from `audit --verify`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tallybook.adapters.sql.access.anchor import FILE
from tallybook.adapters.sql.database import write
from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.serve.api.admission.anchoring import AnchorWatch, anchors_of
from tests.support.gatehouse.house import FIRST_KEY, House, house

TAX = "/api/v1/taxes"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path / "data") as made:
        for number in range(4):
            change(made, f"t{number}")
        assert anchors_of(made.world).follow() == []
        yield made


def change(server: House, key: str) -> None:
    assert server.ask("POST", TAX, FIRST_KEY, {"key": key, "rate": "1"}).status == 201


def verdict(server: House, kept: str = "") -> Any:
    more = f"?kept={kept}" if kept else ""
    answer = server.ask("GET", f"/api/v1/audit/verify{more}", FIRST_KEY)
    assert answer.status == 200, answer.body
    return answer.json


def sql(server: House, *statements: str) -> None:
    with write(server.world.engine) as connection:
        for statement in statements:
            connection.execute(text(statement))


def ends(server: House) -> dict[str, Any]:
    with server.world.engine.connect() as connection:
        found = connection.execute(text("SELECT * FROM audit_head")).mappings().one()
        return {str(name): value for name, value in found.items()}


@pytest.mark.parametrize(
    ("statements", "wrong", "reason"),
    [
        (["UPDATE audit_log SET actor = 'key:other' WHERE seq = 3"], 3, "row 3 was changed"),
        (["UPDATE audit_log SET at_us = at_us - 1 WHERE seq = 3"], 3, "row 3 was changed"),
        (["UPDATE audit_log SET outcome = 'failed' WHERE seq = 3"], 3, "row 3 was changed"),
        (["DELETE FROM audit_log WHERE seq = 3"], 3, "row 3 is missing"),
        (["DELETE FROM audit_log WHERE seq = 1"], 1, "row 1 is missing"),
        (
            [
                "UPDATE audit_log SET seq = 99 WHERE seq = 2",
                "UPDATE audit_log SET seq = 2 WHERE seq = 3",
                "UPDATE audit_log SET seq = 3 WHERE seq = 99",
            ],
            2,
            "row 2 does not follow",
        ),
        (["DELETE FROM audit_log WHERE seq >= 4"], 4, "ends with row 3"),
        (["DELETE FROM audit_log", "DELETE FROM audit_head"], 1, "ends with row 0"),
        (["DELETE FROM audit_head"], 6, "ends with row 5"),
    ],
)
def test_what_plain_sql_does_to_the_log_shows(
    server: House, statements: list[str], wrong: int, reason: str
) -> None:
    assert verdict(server)["whole"]
    sql(server, *statements)
    found = verdict(server)
    assert (found["whole"], found["wrong_seq"], found["kept"]) == (False, wrong, "")
    assert reason in found["reason"]


def test_an_older_end_put_back_shows_and_goes_on_showing(server: House) -> None:
    """The older end was sealed by this server once: the log by itself is whole."""
    old = ends(server)
    for number in range(3):
        change(server, f"hidden{number}")
    watch = anchors_of(server.world)
    assert watch.follow() == []
    sql(
        server,
        f"DELETE FROM audit_log WHERE seq > {old['seq']}",
        f"UPDATE audit_head SET seq = {old['seq']}, digest = '{old['digest']}', "
        f"seal = '{old['seal']}'",
    )
    assert server.world.audit.verified("default").whole
    found = verdict(server)
    assert (found["whole"], found["wrong_seq"]) == (False, old["seq"] + 1)
    assert f"it had row {old['seq'] + 3}" in found["reason"]
    assert watch.follow() == ["default"]
    for number in range(5):
        change(server, f"after{number}")
    assert watch.follow() == ["default"], "who writes on does not make it good"
    found = verdict(server)
    assert not found["whole"]
    assert "another one" in found["reason"]


def test_a_log_taken_away_whole_shows(server: House) -> None:
    sql(server, "DELETE FROM audit_log", "DELETE FROM audit_head")
    assert anchors_of(server.world).follow() == ["default"]
    AnchorWatch(anchors_of(server.world)).round()  # tells the server's log, and goes on
    page = server.ask("POST", "/login", None, f"key={FIRST_KEY}".encode(), FORM)
    cookie = {"cookie": page.headers["set-cookie"].partition(";")[0]}
    shown = server.ask("GET", "/changes?check=true", None, None, cookie)
    assert b"tampered" in shown.body


FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_what_was_written_down_elsewhere_is_compared(server: House) -> None:
    kept = verdict(server)["kept"]
    seq, _, digest = kept.partition(":")
    assert int(seq) == 5
    change(server, "more")
    assert verdict(server, kept)["whole"]
    assert not verdict(server, f"{seq}:{'0' * 64}")["whole"]
    assert "had row 99" in verdict(server, f"99:{digest}")["reason"]
    for wrong in ("5", "x:" + digest, "5:abc", f"5:{digest}é"):
        answer = server.ask("GET", f"/api/v1/audit/verify?kept={wrong}", FIRST_KEY)
        assert (answer.status, answer.json["field"]) == (400, "kept")


def test_the_file_goes_onward_only(server: House, tmp_path: Path) -> None:
    anchors, path = anchors_of(server.world), tmp_path / "data" / FILE
    before = anchors.of("default")
    assert before is not None
    assert before.seq == 5
    assert anchors.of("nobody") is None
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_bytes()
    assert anchors_of(server.world).follow() == []
    assert path.read_bytes() == content
    path.write_bytes(b"{")
    with pytest.raises(Corrupt, match="cannot be read"):
        anchors_of(server.world).follow()
    AnchorWatch(anchors_of(server.world)).round()
    path.unlink()
    path.mkdir()
    with pytest.raises(Unavailable):
        anchors.of("default")
    path.rmdir()
    assert anchors_of(server.world).follow() == []
    assert anchors.of("default") == before
