"""The road of accept and its codec on bytes that nobody means well: a slice, and a long search."""

import os

import pytest

from tests.support.codec_fuzz import case, check, main

CASES = 3_000
LONG_SECONDS = float(os.environ.get("TALLYBOOK_FUZZ_SECONDS", "180"))


def test_no_bytes_break_a_law() -> None:
    told: dict[str, int] = {}
    for seed in range(CASES):
        said = check(case(seed), frozenset({"c1"}) if seed % 5 == 0 else None)
        told[said] = told.get(said, 0) + 1
    assert set(told) == {"accepted", "refused", "malformed"}
    assert min(told.values()) > CASES // 20


@pytest.mark.slow(180)
def test_no_bytes_break_a_law_for_a_long_time() -> None:
    assert main(["--seconds", str(LONG_SECONDS), "--seed", "100000000"]) == 0
