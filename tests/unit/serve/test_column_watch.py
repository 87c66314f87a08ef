"""A worker's columns follow the catalog, and a busy catalog stops nothing."""

import pytest

from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.errors import Unavailable
from tallybook.serve.api import columns as watching
from tallybook.serve.api.columns import ColumnWatch


class Catalog:
    """A version and its meters; now and then busy."""

    def __init__(self, *paths):
        self.changes, self.paths, self.busy, self.asked = 1, list(paths), False, 0

    def version(self):
        self.asked += 1
        if self.busy:
            raise Unavailable("database is locked")
        return self.changes

    def meters(self):
        return [
            ("t", check_meter(MeterSpec(key="m", event_type="t", aggregation="SUM", value=path)))
            for path in self.paths
        ]

    def add(self, path):
        self.paths.append(path)
        self.changes += 1


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(watching, "CHECK_SECONDS", -1.0)


def names(watch):
    return [column.name for column in watch().columns]


def test_a_change_is_followed_and_no_change_keeps_the_compiled_set(at_once):
    catalog = Catalog("$.b")
    watch = ColumnWatch(catalog.version, catalog.meters, 10)
    first = watch()
    assert watch() is first
    catalog.add("$.a")
    assert names(watch) == ["n_a", "n_b"]


def test_a_busy_catalog_keeps_what_is_known(at_once):
    catalog = Catalog("$.a")
    watch = ColumnWatch(catalog.version, catalog.meters, 10)
    catalog.add("$.b")
    catalog.busy = True
    assert names(watch) == ["n_a"]
    catalog.busy = False
    assert names(watch) == ["n_a", "n_b"]


def test_columns_are_bounded(at_once):
    catalog = Catalog("$.a", "$.b", "$.c")
    assert names(ColumnWatch(catalog.version, catalog.meters, 2)) == ["n_a", "n_b"]


def test_the_catalog_is_not_asked_at_every_request():
    catalog = Catalog("$.a")
    watch = ColumnWatch(catalog.version, catalog.meters, 10)
    for _ in range(100):
        watch()
    assert catalog.asked == 1
