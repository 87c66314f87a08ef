"""The usage of many payers in few questions; one whose usage has no answer is left out.

Source: docs/algorithms/billing-runs.md
"""

from collections.abc import Sequence

from tallybook.invoice.document import Facts
from tallybook.invoice.questions import ask
from tallybook.invoice.run.basis import Basis
from tallybook.invoice.run.work import Work
from tallybook.kernel.errors import Corrupt, Refused


def answers(
    basis: Basis, works: Sequence[Work]
) -> tuple[dict[str, Facts], dict[str, Refused | Corrupt]]:
    """Return the usage of payers by their keys, and why some have none.

    Args:
        basis: of the run.
        works: what is asked.

    Cost: as `ask`; with one payer among n whose usage cannot be summed, 2·log₂ n times that at
        most.
    """
    billing = basis.billing
    try:
        asked = [work.asked for work in works]
        return ask(billing.usage, billing.tenant, asked, basis.catalog, basis.run.cut), {}
    except (Refused, Corrupt) as error:
        if len(works) == 1:
            return {}, {works[0].key: error}
    middle = len(works) // 2
    facts, failed = answers(basis, works[:middle])
    more_facts, more_failed = answers(basis, works[middle:])
    return facts | more_facts, failed | more_failed
