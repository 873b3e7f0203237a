"""The table of roles, and what selectors and narrowed tokens make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.model import Expression, Node, Selector, Site
from orchestrator.people.permissions import ALL_SITES, Binding, Permission, Place, Principal, Role, Verdict, mistakes

HAMBURG = Site(name="hamburg", nodes=(Node(name="edge1"),), labels={"region": "north", "ring": "one"})
LEIPZIG = Site(name="leipzig", nodes=(Node(name="edge1"),), labels={"region": "east"})
NORTH = Selector(match_labels={"region": "north"})

# Written down a second time on purpose: a change of the table must be meant.
HOLDS = {
    Role.VIEWER: "look inquire",
    Role.OPERATOR: "look inquire apply-fleet roll-out",
    Role.OT_ENGINEER: "look inquire apply-fleet roll-out set-parameters publish approve-ot",
    Role.IT_ENGINEER: "look inquire apply-fleet roll-out admit-nodes publish approve-it",
    Role.ADMIN: "look inquire manage-people",
}


def person(*bindings: Binding, limits: tuple[Binding, ...] | None = None, unfinished: str = "") -> Principal:
    return Principal("ada", bindings, limits, unfinished)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", [p for p in Permission if p is not Permission.OWN_ACCOUNT])
def test_each_role_holds_what_is_written_here_and_nothing_else(role: Role, permission: Permission) -> None:
    assert person(Binding(role)).everywhere(permission) == (permission.value in HOLDS[role].split())


def test_an_admin_neither_acts_for_ot_nor_for_it() -> None:
    admin = person(Binding(Role.ADMIN))
    for permission in (Permission.SET_PARAMETERS, Permission.ADMIT_NODES, Permission.ROLL_OUT, Permission.PUBLISH):
        assert admin.judge(permission, Place.SITE, HAMBURG) is Verdict.FORBIDDEN


def test_somebody_without_a_role_may_use_only_the_own_account() -> None:
    nobody = person()
    assert [p for p in Permission if nobody.somewhere(p)] == [Permission.OWN_ACCOUNT]


def test_a_role_counts_only_at_the_sites_of_its_selector() -> None:
    operator = person(Binding(Role.OPERATOR, NORTH))
    assert operator.judge(Permission.LOOK, Place.SITE, HAMBURG) is Verdict.ALLOWED
    assert operator.judge(Permission.LOOK, Place.SITE, LEIPZIG) is Verdict.HIDDEN
    assert operator.judge(Permission.LOOK, Place.SITE, None) is Verdict.HIDDEN
    assert operator.judge(Permission.ROLL_OUT, Place.EVERYWHERE) is Verdict.FORBIDDEN
    assert operator.judge(Permission.ROLL_OUT, Place.SOMEWHERE) is Verdict.ALLOWED
    assert operator.judge(Permission.SET_PARAMETERS, Place.SITE, HAMBURG) is Verdict.FORBIDDEN


def test_what_is_seen_but_not_allowed_is_forbidden_and_what_is_not_seen_does_not_exist() -> None:
    mixed = person(Binding(Role.VIEWER, NORTH), Binding(Role.OT_ENGINEER, Selector(sites=("bremen",))))
    assert mixed.judge(Permission.SET_PARAMETERS, Place.SITE, HAMBURG) is Verdict.FORBIDDEN
    assert mixed.judge(Permission.SET_PARAMETERS, Place.SITE, LEIPZIG) is Verdict.HIDDEN


def test_without_the_permission_the_answer_does_not_depend_on_the_site() -> None:
    viewer = person(Binding(Role.VIEWER, NORTH))
    answers = {viewer.judge(Permission.ADMIT_NODES, Place.SITE, site) for site in (HAMBURG, LEIPZIG, None)}
    assert answers == {Verdict.FORBIDDEN}


def test_admin_cannot_be_bound_to_sites() -> None:
    assert mistakes([Binding(Role.ADMIN, NORTH)])
    assert not mistakes([Binding(Role.ADMIN), Binding(Role.VIEWER, NORTH)])


def test_whoever_has_something_to_finish_may_only_use_the_own_account() -> None:
    unfinished = person(*(Binding(role) for role in Role), unfinished="choose a password")
    assert [p for p in Permission if unfinished.somewhere(p)] == [Permission.OWN_ACCOUNT]


def test_a_narrowed_token_cannot_touch_the_account_of_its_owner() -> None:
    narrowed = person(Binding(Role.ADMIN), limits=(Binding(Role.ADMIN),))
    assert not narrowed.somewhere(Permission.OWN_ACCOUNT)
    assert person(Binding(Role.VIEWER)).somewhere(Permission.OWN_ACCOUNT)


_selectors = st.sampled_from(
    [ALL_SITES, NORTH, Selector(sites=("leipzig",)), Selector(match_expressions=(Expression("ring", "Exists"),))]
)
_bindings = st.lists(st.builds(Binding, st.sampled_from(Role), _selectors), max_size=4).map(tuple)


@given(_bindings, _bindings, st.sampled_from(Permission), st.sampled_from([HAMBURG, LEIPZIG]))
def test_a_token_never_exceeds_its_owner(
    owned: tuple[Binding, ...], limits: tuple[Binding, ...], permission: Permission, site: Site
) -> None:
    owner, token = person(*owned), person(*owned, limits=limits)
    assert owner.at(permission, site) or not token.at(permission, site)
    assert owner.everywhere(permission) or not token.everywhere(permission)
    assert owner.somewhere(permission) or not token.somewhere(permission)


@given(_bindings, st.sampled_from(Permission), st.sampled_from([HAMBURG, LEIPZIG]))
def test_everywhere_is_at_each_site_and_each_site_is_somewhere(
    owned: tuple[Binding, ...], permission: Permission, site: Site
) -> None:
    holder = person(*owned)
    if permission is not Permission.OWN_ACCOUNT:
        assert holder.at(permission, site) or not holder.everywhere(permission)
        assert holder.somewhere(permission) or not holder.at(permission, site)
