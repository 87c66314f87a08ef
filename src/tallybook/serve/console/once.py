"""Forms that make something once, however often a browser sends them."""

import hmac

from tallybook.compose import World
from tallybook.kernel.errors import Missing


def once_key(world: World, once: str) -> str:
    """Return a key that the same form always has."""
    return hmac.digest(world.secret, f"once {once}".encode(), "sha256").hex()[:24]


def is_recorded(world: World, tenant: str, name: str) -> bool:
    """Whether the payment or refund of a form is there, because the form was sent before."""
    try:
        world.settlements.payment(tenant, name)
    except Missing:
        return False
    return True
