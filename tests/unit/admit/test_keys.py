"""Keys: what they grant, in which order they are refused, how they are made and rotated."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.admit.issue import (
    OVERLAP_SECONDS_MAX,
    SUBJECTS_MAX,
    KeySpec,
    KeyText,
    check_expiry,
    check_giving,
    check_leaving,
    check_terms,
    is_good,
    made,
    rotated,
)
from tallybook.admit.key import ROLES, SCOPES, ApiKey, Grant, alive, allowed, granted, scopes_of
from tallybook.kernel.errors import Conflict, Forbidden, Invalid

NOW = 1_800_000_000_000_000
LATER = "2030-01-01T00:00:00Z"
TEXT = KeyText(id="key_2", shown="tb_next1", digest="d2")


def key(**parts: object) -> ApiKey:
    fields: dict[str, object] = {
        "tenant": "t", "id": "key_1", "name": "n", "shown": "tb_abcde", "digest": "d",
        "scopes": ("read",), "created_us": NOW - 1000,
    }  # fmt: skip
    return msgspec.convert(fields | parts, ApiKey)


def test_scopes_grant_what_they_say() -> None:
    def of(*scopes: str) -> set[str]:
        return {scope for scope in SCOPES if Grant("t", "k", frozenset(scopes)).allows(scope)}

    assert of("ingest") == {"ingest"}
    assert of("read") == {"read"}
    assert of("billing") == {"read", "billing"}
    assert of("admin") == {"ingest", "read", "billing", "admin"}
    assert of("operator") == {"operator"}, "an operator sees nothing of a tenant's data"


def test_reasons_to_refuse_come_in_one_order() -> None:
    grant = granted(key(expires_us=NOW), closed=True)
    with pytest.raises(Forbidden) as caught:
        alive(None, NOW)
    assert caught.value.code == "no-key"
    with pytest.raises(Forbidden) as caught:
        alive(grant, NOW)
    assert caught.value.code == "key-expired", "refused at the very instant"
    with pytest.raises(Forbidden) as caught:
        alive(grant, NOW - 1)
    assert caught.value.code == "tenant-closed"
    whole = granted(key(subjects=("s",), customer="c", usage_plan="p"))
    assert alive(whole, NOW) == whole
    assert (whole.bound, whole.customer, whole.usage_plan) == (True, "c", "p")


def test_a_bound_grant_needs_a_route_that_understands_it() -> None:
    free, bound = granted(key()), granted(key(customer="c"))
    assert allowed(free, "read", bound=False) == free
    assert allowed(bound, "read", bound=True) == bound
    with pytest.raises(Forbidden, match="only for some subjects"):
        allowed(bound, "read", bound=False)
    with pytest.raises(Forbidden, match="lacks the scope 'billing'"):
        allowed(bound, "billing", bound=True)


def test_roles_are_sets_of_scopes() -> None:
    assert scopes_of(["ingest", "ingest"], ["owner"]) == ("ingest", "admin")
    assert all(scopes_of([], [role]) == scopes_of(scopes) for role, scopes in ROLES.items())
    assert scopes_of([], ["operator"]) == ("admin", "operator")
    assert scopes_of(["operator"]) == ("operator",)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (KeySpec(name="", scopes=["read"]), "name"),
        (KeySpec(name="a\nb", scopes=["read"]), "name"),
        (KeySpec(name="x" * 129, scopes=["read"]), "name"),
        (KeySpec(name="n"), "scopes"),
        (KeySpec(name="n", scopes=["write"]), "scopes"),
        (KeySpec(name="n", roles=["king"]), "roles"),
        (KeySpec(name="n", scopes=["billing"], subjects=["s"]), "scopes"),
        (KeySpec(name="n", roles=["owner"], customer="c"), "scopes"),
        (KeySpec(name="n", scopes=["read"], subjects=[""]), "subjects"),
        (KeySpec(name="n", scopes=["read"], subjects=["s"] * (SUBJECTS_MAX + 1)), "subjects"),
        (KeySpec(name="n", scopes=["read"], customer="c" * 256), "customer"),
        (KeySpec(name="n", scopes=["read"], usage_plan="p" * 129), "usage_plan"),
        (KeySpec(name="n", scopes=["read"], expires_time="tomorrow"), "expires_time"),
        (KeySpec(name="n", scopes=["read"], expires_time="2020-01-01T00:00:00Z"), "expires_time"),
    ],
)
def test_what_cannot_be_a_key_is_refused_by_field(spec: KeySpec, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_terms(spec, NOW)
    assert caught.value.field == field


def test_terms_become_a_key() -> None:
    spec = KeySpec(
        name="n", scopes=["read"], roles=["sender"], subjects=["b", "a", "b"], customer="c",
        usage_plan="p", expires_time=LATER,
    )  # fmt: skip
    terms = check_terms(spec, NOW)
    assert terms.scopes == ("ingest", "read")
    assert terms.subjects == ("b", "a")
    stored = made("t", terms, TEXT, NOW)
    assert (stored.id, stored.digest, stored.expires_us) == ("key_2", "d2", check_expiry(LATER, 0))
    assert is_good(stored, NOW)


def test_nobody_gives_what_they_lack() -> None:
    admin = Grant("t", "k", frozenset({"admin"}))
    check_giving(admin, ("ingest", "read", "billing", "admin"))
    with pytest.raises(Forbidden, match="operator"):
        check_giving(admin, ("admin", "operator"))


@given(
    overlap=st.integers(0, OVERLAP_SECONDS_MAX),
    life=st.none() | st.integers(1, 10**15),
    age=st.integers(0, 10**15),
)
def test_a_rotation_never_lengthens_a_key_and_keeps_its_rights(
    overlap: int, life: int | None, age: int
) -> None:
    begun = NOW - age
    before = key(
        created_us=begun,
        expires_us=None if life is None else NOW + life,
        subjects=("s",),
        customer="c",
        usage_plan="p",
        last_used_us=NOW,
    )
    old, new = rotated(before, TEXT, overlap, None, NOW)
    ends = NOW + overlap * 1_000_000
    assert old.expires_us == (ends if life is None else min(ends, NOW + life))
    assert old.successor == new.id
    assert new.replaces == old.id
    for name in ("tenant", "name", "scopes", "subjects", "customer", "usage_plan"):
        assert getattr(new, name) == getattr(old, name) == getattr(before, name)
    assert new.expires_us == (None if life is None else NOW + NOW + life - begun)
    assert new.last_used_us is None
    assert is_good(new, NOW)
    if overlap:
        assert is_good(old, NOW)


def test_a_rotation_at_once_or_with_an_end_of_its_own() -> None:
    old, new = rotated(key(), TEXT, 0, NOW + 5, NOW)
    assert not is_good(old, NOW)
    assert new.expires_us == NOW + 5


def test_what_cannot_be_rotated() -> None:
    for wrong, code in (
        (key(revoked_us=1), "key-over"),
        (key(expires_us=NOW), "key-over"),
        (key(successor="key_9"), "key-rotated"),
    ):
        with pytest.raises(Conflict) as caught:
            rotated(wrong, TEXT, 1, None, NOW)
        assert caught.value.code == code
    for overlap in (-1, OVERLAP_SECONDS_MAX + 1):
        with pytest.raises(Invalid):
            rotated(key(), TEXT, overlap, None, NOW)


def test_the_last_owner_stays() -> None:
    owner, other = key(scopes=["admin"]), key(id="key_2", scopes=["admin"])
    check_leaving([owner, other], "key_1", NOW)
    check_leaving([owner, key(id="key_3")], "key_3", NOW)
    over = msgspec.structs.replace(other, expires_us=NOW)
    with pytest.raises(Conflict) as caught:
        check_leaving([owner, over], "key_1", NOW)
    assert caught.value.code == "last-owner"
