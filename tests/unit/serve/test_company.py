"""Waiting for company: tried at once, and left for longer each time it was in vain."""

import itertools

from tallybook.serve.api.company import PASSES_MAX, Company


def tries(company: Company, passes: int, came: bool) -> list[int]:
    """Return the passes for which somebody waited."""
    tried = []
    for number in range(passes):
        if company.likely:
            tried.append(number)
            company.awaited(came=came)
        else:
            company.not_awaited()
    return tried


def test_where_nobody_comes_it_is_tried_ever_more_seldom():
    tried = tries(Company(), 10_000, came=False)
    gaps = [later - earlier - 1 for earlier, later in itertools.pairwise(tried)]
    assert gaps[:5] == [1, 2, 4, 8, 16]
    assert max(gaps) == gaps[-1] == PASSES_MAX


def test_where_somebody_comes_it_goes_on():
    assert tries(Company(), 50, came=True) == list(range(50))


def test_one_who_comes_is_believed_at_once():
    company = Company()
    tries(company, 1_000, came=False)
    while not company.likely:
        company.not_awaited()
    company.awaited(came=True)
    assert tries(company, 10, came=True) == list(range(10))


def test_one_vain_try_among_many_costs_one_pass():
    company = Company()
    tries(company, 10, came=True)
    company.awaited(came=False)
    assert not company.likely
    company.not_awaited()
    assert company.likely
