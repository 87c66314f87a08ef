"""Worlds that stories of billing begin in: each story is told on memory and on a database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.settled_world import SettledWorld


@pytest.fixture(params=["memory", "sqlite"])
def any_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SettledWorld]:
    """Yield an empty world with payments and credit notes."""
    made = SettledWorld(None if request.param == "memory" else tmp_path)
    yield made
    made.close()
