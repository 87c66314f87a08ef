"""Examples of the API's description, taken from calls that were really made.

    python -m tests.support.gatehouse.examples

writes them beside the description; a test demands one of every route.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from tests.support.gatehouse import story as told
from tests.support.gatehouse.house import FIRST_KEY, Answer, House, house
from tests.support.gatehouse.openmeter import shaped
from tests.support.gatehouse.story import API, MARK, Call, Story

FILE = Path("src/tallybook/serve/api/document/examples.json")
WORDS = {
    "customer": "acme", "subject": "acme-eu", "meter": "requests", "plan": "pro", "tax": "vat",
    "subscription": "acme-pro", "coupon": "welcome", "feature": "api-calls", "wallet": "acme-usd",
    "type": "http.server.request", "usage": "standard", "edge": "web-1", "rule": "to-audit",
    "stream": "audit", "group": "readers", "seller": "Example Ltd", "user": "ada", "line": "Setup",
}  # fmt: skip
"""What a thing of the story is called -> what it is called in an example."""
_SECRET = re.compile(r"\b(tb|whsec)_[A-Za-z0-9_+/=-]{8,}")
ITEMS_MAX, ITEM_CHARS_MAX = 1, 2500


def plain(value: Any) -> Any:
    """Return a value as an example shows it: with everyday names, short, without secrets."""
    match value:
        case dict():
            return {plain(name): plain(inner) for name, inner in value.items()}
        case list():
            return [plain(inner) for inner in value[:ITEMS_MAX]]
        case str():
            text = re.sub(rf"([a-z]+)-{MARK}", lambda m: WORDS.get(m[1], m[1]), value)
            return _SECRET.sub(lambda found: f"{found[1]}_example", text.replace(MARK, "example"))
        case _:
            return value


class Heard:
    """Collects examples of calls.

    Args:
        templates: method and path of everything that is described.
    """

    def __init__(self, templates: list[tuple[str, str]]) -> None:
        """Have none."""
        self.templates = templates
        self.found: dict[str, dict[str, Any]] = {}

    def add(self, method: str, template: str, path: str, body: Any, answer: Answer) -> None:
        """Keep a call that succeeded, the first of its route."""
        name = f"{method} {template}"
        if not 200 <= answer.status < 300 or name in self.found:
            return
        example: dict[str, Any] = {"status": answer.status}
        if body is not None:
            example["request"] = plain(body.decode() if isinstance(body, bytes) else body)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if kind == "application/json" and not template.endswith("/openapi.json"):
            example["response"] = plain(answer.json)
        elif kind and not template.endswith("/openapi.json"):
            example |= {"type": kind, "response": answer.body.decode(errors="replace")[:300]}
        named = zip(template.split("/"), path.partition("?")[0].split("/"), strict=True)
        places = {one[1:-1]: plain(real) for one, real in named if one.startswith("{")}
        self.found[name] = example | ({"path": places} if places else {})


def collected(server: House, walk: Any) -> dict[str, dict[str, Any]]:
    """Return method and path -> an example.

    Args:
        server: an empty one.
        walk: the module that knows where what is shown.
    """
    owner = server.tenant("acme")
    story, tenancy = Story(server, "acme", owner), Story(server, "default", FIRST_KEY)
    town = walk.Town(server, story, "", "", {}, {}, tenancy)
    heard = Heard(walk.documented(town))
    parts = [(story, part) for part in told.LIVING] + [(tenancy, told.tenancy)]
    for teller, part in [*parts, (story, told.questions)]:
        for call in part():
            heard.add(*_made(teller, call))
    for method, template in heard.templates:
        if method == "GET" and template not in {walk.STREAMING, walk.LAGO_EVENT}:
            path = walk.path_of(town, template)
            key = walk.key_for(town, template)
            heard.add("GET", template, path, None, server.ask("GET", path, key))
    for call in told.farewell():
        heard.add(*_made(story, call))
    for one in shaped(server, server.tenant("shapes")):
        heard.add(one.method, one.template, one.path, one.body, one.answer)
    invoice = heard.found[f"GET {API}/invoices/{{name}}"]
    heard.found[f"GET {API}/invoices/{{name}}/explain"] = {
        "status": 200,
        "response": {
            "line": invoice["response"]["lines"][0],
            "ok": True,
            "count": 0,
            "digest": "0",
            "items": [],
            "next_cursor": None,
        },
        "path": invoice["path"],
    }
    return dict(sorted(heard.found.items()))


def _made(story: Story, call: Call) -> tuple[str, str, str, Any, Answer]:
    body = call.content(story.made)
    path = call.path(story.made)
    return call.method, API + call.template, path, body, story.tell(call)


def main() -> int:
    """Write the file."""
    from tests.flow import test_gate_walk as walk

    with tempfile.TemporaryDirectory() as folder, house(Path(folder) / "data") as server:
        found = collected(server, walk)
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
