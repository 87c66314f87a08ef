"""Which rules of aggregation count: asked of the server every minute, kept for when it is away."""

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from threading import Event, Thread

import msgspec

from tallybook.adapters.http.client import Client, decoded
from tallybook.collect.aggregate.rule import RuleSet, compiled
from tallybook.kernel.errors import Corrupt, Missing, TallybookError, Unavailable
from tallybook.serve.agent.voice import Voice

RULES_NAME = "rules.json"
EVERY_SECONDS = 60.0
_TIMEOUT_SECONDS = 10
_LAST_SECONDS = 1.0
_ABOUT = "rules"


class RuleFollower(Thread):
    """Knows the newest rules; asks in its own thread, so that reading never waits for an answer.

    Args:
        client: gives the client of the moment.
        edge: this edge's name.
        folder: the state folder, where the rules are kept.
        voice: tells what is wrong.
    """

    def __init__(self, client: Callable[[], Client], edge: str, folder: Path, voice: Voice) -> None:
        """Start from the rules that were kept."""
        super().__init__(name="rules", daemon=True)
        self._client = client
        self._edge = edge
        self._path = folder / RULES_NAME
        self._voice = voice
        self._ended = Event()
        self.asked = Event()
        self.newest = kept_rules(folder) or RuleSet()
        self.known = self._path.exists()

    def run(self) -> None:
        """Ask until the end."""
        while not self._ended.is_set():
            try:
                self._ask()
                self._voice.settle(_ABOUT)
            except (Unavailable, Missing):
                pass  # the sender tells that nobody answers; a server without rules has none
            except TallybookError as error:
                self._voice.complain(_ABOUT, f"{error.message} ({error.code})")
            except Exception as error:  # noqa: BLE001 - a bug here must not end the following of rules
                self._voice.complain(_ABOUT, f"{type(error).__name__}: {error}")
            self.asked.set()
            self._ended.wait(EVERY_SECONDS)

    def end(self) -> None:
        """Stop asking; wait a moment for the answer that is on its way."""
        self._ended.set()
        self.join(_LAST_SECONDS)

    def _ask(self) -> None:
        tag = {"If-None-Match": f'"{self.newest.version}"'} if self.known else {}
        answer = self._client().raw(
            "GET",
            "/api/v1/edges/rules",
            params={"edge": self._edge},
            headers={"Accept": "application/json", **tag},
            timeout_seconds=_TIMEOUT_SECONDS,
        )
        if answer.status == HTTPStatus.NOT_MODIFIED:
            return
        found = decoded(answer.content, RuleSet)
        compiled(found)  # what cannot be followed is told, and the rules before stay
        _keep(self._path, found)
        if found.version != self.newest.version:
            self._voice.say(f"rules: version {found.version or 'none'}, {len(found.rules)} rules")
        self.newest, self.known = found, True


def kept_rules(folder: Path) -> RuleSet | None:
    """Return the rules that were last fetched, None where none were or they cannot be read."""
    try:
        return msgspec.json.decode((folder / RULES_NAME).read_bytes(), type=RuleSet)
    except (OSError, msgspec.MsgspecError):
        return None


def _keep(path: Path, rules: RuleSet) -> None:
    partial = path.with_suffix(".new")
    try:
        partial.write_bytes(msgspec.json.encode(rules))
        partial.replace(path)
    except OSError as error:
        raise Corrupt(f"{path}: {error.strerror or error}") from error
