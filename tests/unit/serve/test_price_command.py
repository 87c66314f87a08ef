"""`tallybook price` computes on the spot, says how, and names what is wrong."""

import io
import json
from pathlib import Path

import pytest

from tallybook.serve.cli.main import run

PACKAGE = '{"type":"package","package_size":"10","amount":"100"}'
MATRIX = (
    '{"type":"matrix","dimensions":["region"],'
    '"cells":[{"match":{"region":"eu"},"unit_amount":"0.0015"}],"default_unit_amount":"1"}'
)


def test_a_quantity(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["price", PACKAGE, "--quantity", "121"]) == 0
    assert capsys.readouterr().out == ("121 in packages of 10: 13 × 100 = 1300\n1300.00 USD\n")


def test_events_of_a_price_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "price.json"
    file.write_text(MATRIX)
    events = ["--event", "5 region=eu", "--event", "2"]
    assert run(["price", str(file), "--currency", "EUR", *events]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "region eu: 5 × 0.0015 = 0.0075",
        "region (none): 2 × 1 = 2",
        "2.01 EUR, exactly 2.0075",
    ]


def test_json_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_credits = '"pricing_unit":{"name":"CRD","conversion_rate":"2"}'
    price = f'{{"type":"unit","unit_amount":"1",{in_credits}}}'
    monkeypatch.setattr("sys.stdin", io.StringIO(price))
    assert run(["price", "-", "--quantity", "3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["amount"], answer["rounded"]) == ("6", "6.00")
    assert [step.get("unit") for step in answer["steps"]] == ["CRD", None]
    assert run(["price", price, "--quantity", "3"]) == 0
    assert capsys.readouterr().out == "3 × 1 = 3 (CRD)\nCRD at 2: 3 × 2 = 6\n6.00 USD\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([PACKAGE], "[quantity]"),
        ([PACKAGE, "--quantity", "many"], "[quantity]"),
        ([PACKAGE, "--quantity", "1", "--currency", "XYZ"], "[currency]"),
        ([PACKAGE, "--event", ""], "[events[0].quantity]"),
        ([PACKAGE, "--event", "1", "--event", "1 eu"], "[events[1]]"),
        (["{}", "--quantity", "1"], "[price.type]"),
        (["{", "--quantity", "1"], "[price]"),
        (["/nowhere", "--quantity", "1"], "PRICE is neither JSON nor a file"),
    ],
)
def test_a_refusal_names_the_field(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["price", *arguments]) == 1
    assert message in capsys.readouterr().err
