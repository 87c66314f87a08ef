"""Bodies that are no JSON, which types of Python do not tell."""

from typing import Any

API = "/api/v1"

TOML = {("post", f"{API}/catalog/{what}") for what in ("apply", "diff", "backtest")}
"""They take a catalog.toml."""

_JSON: dict[str, Any] = {"schema": {"type": "object"}}
_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_TEXT: dict[str, Any] = {"schema": {"type": "string"}}

BINARY: dict[tuple[str, str], dict[str, Any]] = {
    ("get", "/metrics"): {"text/plain": _TEXT},
    ("get", "/openapi.json"): {"application/json": _JSON},
    ("get", f"{API}/quarantine/export"): {"application/x-ndjson": _TEXT},
    ("get", f"{API}/streams/{{name}}/sse"): {"text/event-stream": _TEXT},
}
"""Method and path -> content of the answer."""
for _what in ("invoices", "credit-notes"):
    BINARY["get", f"{API}/{_what}/{{name}}"] = {
        "application/json": _JSON,
        "application/pdf": _FILE,
        "application/xml": _TEXT,
    }
