"""Tenants: what may name one."""

import re

from tallybook.kernel.errors import Conflict, Invalid

NAME_CHARS_MAX = 255
FIRST = "default"
"""The tenant of the first key (DECISIONS 18); it has no row and is never closed."""
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")


def check_tenant(tenant: str) -> str:
    """Return the id of a new tenant; raises Invalid, or Conflict for the first one's."""
    if _ID.match(tenant) is None:
        message = "tenant must be 1 to 63 of a-z, 0-9, '-' and '_', starting with a letter or digit"
        raise Invalid(message, field="tenant")
    if tenant == FIRST:
        raise Conflict(f"the tenant '{FIRST}' is there from the start")
    return tenant


def check_tenant_name(name: str) -> str:
    """Return the name of a tenant; raises Invalid."""
    if len(name) > NAME_CHARS_MAX or (name and not name.isprintable()):
        message = f"name must have at most {NAME_CHARS_MAX} printable characters"
        raise Invalid(message, field="name")
    return name


def check_closing(tenant: str, own: str) -> None:
    """Refuse to lock oneself, or the first tenant, out; raises Conflict ('own-tenant')."""
    if tenant in {FIRST, own}:
        message = f"the tenant '{tenant}' cannot be closed with a key of its own, nor the first one"
        raise Conflict(message, code="own-tenant")
