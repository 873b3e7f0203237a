"""Who may do what, and where: one table from roles to permissions, and selectors that bind roles to sites. Pure.

The routes ask ``Principal``; nobody else decides. What no role holds, nobody may do.

- *viewer* looks, and asks running instances what only reads.
- *operator* also moves the fleet: applies documents, rolls out, pauses, aborts.
- *ot-engineer* also answers for the machine: sets parameters of running instances, approves rollouts that touch class
  control, and publishes what was signed.
- *it-engineer* also answers for the line to it: admits nodes, approves rollouts as the other side, and publishes.
- *admin* looks, and manages accounts. It neither rolls out nor sets anything: whoever hands out roles could otherwise
  act for OT and IT at once, and the two-person rule would be one person's. An admin who takes a role leaves an event.

The first account of an installation holds every role, so that a plant of one person works; take roles away from it
when there are others. Roles are bound to sites by the selectors of the fleet's documents; *admin* is bound to none,
because it could give itself the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum

from manifests.model import Selector, Site
from orchestrator.fleets import matches


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    OT_ENGINEER = "ot-engineer"
    IT_ENGINEER = "it-engineer"
    ADMIN = "admin"


class Permission(StrEnum):
    OWN_ACCOUNT = "own-account"  # one's password, second factor, tokens; everybody who is logged in
    LOOK = "look"  # sites, values, releases, rollouts, events
    INQUIRE = "inquire"  # ask a running instance to read something
    APPLY_FLEET = "apply-fleet"
    ROLL_OUT = "roll-out"  # start, pause, resume, abort
    APPROVE_OT = "approve-ot"  # speak for OT on a rollout that touches class control
    APPROVE_IT = "approve-it"
    SET_PARAMETERS = "set-parameters"  # set-points and forces of running instances
    PUBLISH = "publish"  # signed catalogs and the blobs they name; signatures decide what may run
    ADMIT_NODES = "admit-nodes"  # enrolment tokens
    MANAGE_PEOPLE = "manage-people"


_LOOKS = frozenset({Permission.LOOK, Permission.INQUIRE})
_MOVES = _LOOKS | {Permission.APPLY_FLEET, Permission.ROLL_OUT}
ROLES: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _LOOKS,
    Role.OPERATOR: _MOVES,
    Role.OT_ENGINEER: _MOVES | {Permission.SET_PARAMETERS, Permission.PUBLISH, Permission.APPROVE_OT},
    Role.IT_ENGINEER: _MOVES | {Permission.ADMIT_NODES, Permission.PUBLISH, Permission.APPROVE_IT},
    Role.ADMIN: _LOOKS | {Permission.MANAGE_PEOPLE},
}


ALL_SITES = Selector()


@dataclass(frozen=True, slots=True)
class Binding:
    """A role, at the sites that the selector chooses."""

    role: Role
    sites: Selector = ALL_SITES

    @property
    def everywhere(self) -> bool:
        return self.sites == ALL_SITES

    def gives(self, permission: Permission) -> bool:
        return permission in ROLES[self.role]


Bindings = tuple[Binding, ...]
EVERY_ROLE: Bindings = tuple(Binding(role) for role in Role)


def mistakes(bindings: Iterable[Binding]) -> list[str]:
    """Why these bindings cannot be given; empty when they can."""
    bound = [b for b in bindings if b.role is Role.ADMIN and not b.everywhere]
    return ["admin cannot be bound to sites: it could give itself the rest"] if bound else []


class Place(Enum):
    """Where a route needs its permission."""

    SITE = "at the site of its path"
    SOMEWHERE = "at one site at least; the answer holds only those"
    EVERYWHERE = "without a limit to sites"


class Verdict(Enum):
    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    HIDDEN = "hidden"  # answered like a site that does not exist


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever calls. ``limits``: what a token was given; it narrows what its owner holds now, never widens it.

    ``unfinished``: what the person must do first; until then only the own account can be used.
    """

    user: str
    bindings: Bindings
    limits: Bindings | None = None
    unfinished: str = ""

    def _layers(self) -> tuple[Bindings, ...]:
        return (self.bindings,) if self.limits is None else (self.bindings, self.limits)

    def somewhere(self, permission: Permission) -> bool:
        if permission is Permission.OWN_ACCOUNT:
            return self.limits is None  # a narrowed token must not make itself a wider one
        return not self.unfinished and all(any(b.gives(permission) for b in layer) for layer in self._layers())

    def everywhere(self, permission: Permission) -> bool:
        if permission is Permission.OWN_ACCOUNT:
            return self.somewhere(permission)
        return not self.unfinished and all(
            any(b.everywhere and b.gives(permission) for b in layer) for layer in self._layers()
        )

    def at(self, permission: Permission, site: Site) -> bool:
        return not self.unfinished and all(
            any(b.gives(permission) and matches(b.sites, site) for b in layer) for layer in self._layers()
        )

    def judge(self, permission: Permission, place: Place, site: Site | None = None) -> Verdict:
        """``site``: the one of the path, None when there is none of that name."""
        if not self.somewhere(permission):
            return Verdict.FORBIDDEN  # said before the site is looked at: the answer tells nothing about it
        if place is Place.SOMEWHERE or self.everywhere(permission):
            return Verdict.ALLOWED
        if place is Place.EVERYWHERE:
            return Verdict.FORBIDDEN
        if site is None or not self.at(Permission.LOOK, site):
            return Verdict.HIDDEN
        return Verdict.ALLOWED if self.at(permission, site) else Verdict.FORBIDDEN
