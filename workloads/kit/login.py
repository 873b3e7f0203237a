"""Who a workload is to a broker or a server: a user, and a password that is better a secret than a text.

Called by ``live``, ``opcua`` and workloads that log in elsewhere. It keeps no password: each connection asks anew,
because a secret may have been replaced meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

Secret = Callable[[str], str]  # as ``context.read_secret``: raises MachineError


class Login(Protocol):
    """What a configuration says; ``password`` is readable by whoever reads the configuration."""

    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def password_secret(self) -> str: ...


def password(login: Login, secret: Secret | None) -> str:
    """As it is now. Raises MachineError when the secret is not there."""
    if login.password_secret and secret is not None:
        return secret(login.password_secret)
    return login.password


def mistakes(login: Login) -> Iterator[tuple[str, str, str]]:
    """Contradictions between the fields: key, what, hint."""
    if login.password and login.password_secret:
        yield "password", "a password beside passwordSecret", "give one of them"
    if (login.password or login.password_secret) and not login.username:
        yield "password", "a password without a username", ""
