"""What every test against real processes finds in its environment."""

from collections.abc import Iterator

import pytest

from tests.e2e.server import Server, workers
from tests.support.kafka_broker import broker


@pytest.fixture(scope="module", autouse=True)
def one_api_worker() -> Iterator[None]:
    """Servers have one API worker unless a test says `workers(2)`.

    Each takes time to start. Two are for what goes wrong between two: what one has not learned
    yet, what both count, which of them is killed.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLYBOOK__SERVER__API_WORKERS", "1")
        yield


@pytest.fixture(scope="package")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker; every test has topics of its own."""
    with broker(tmp_path_factory.mktemp("kafka")) as address:
        yield address


@pytest.fixture(scope="package")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests that never kill it: `tenant()` gives each module one of its own."""
    with Server(tmp_path_factory.mktemp("shared") / "data", workers(1)) as running:
        yield running
