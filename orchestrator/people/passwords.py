"""Passwords: how long they must be, and how they are kept (argon2id)."""

from __future__ import annotations

import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST = 10
LONGEST = 256


class WeakPasswordError(Exception):
    """The text says what is missing."""


class Passwords:
    def __init__(self, shortest: int = SHORTEST) -> None:
        self.shortest = shortest
        # OWASP's smallest argon2id setting: a login must not take a quarter of a small machine's memory.
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._nobody = self._hasher.hash(secrets.token_hex(16))
        self._one_at_a_time = threading.Lock()  # guesses queue up here, not in memory

    def check(self, password: str, user: str) -> None:
        """Raises WeakPasswordError."""
        if not self.shortest <= len(password) <= LONGEST:
            raise WeakPasswordError(f"a password has {self.shortest} to {LONGEST} characters")
        if user.lower() in (password.lower(), password.lower()[::-1]):
            raise WeakPasswordError("a password is not the user's name")

    def hash(self, password: str) -> str:
        with self._one_at_a_time:
            return self._hasher.hash(password.encode("utf-8", "surrogatepass"))

    def verify(self, hashed: str, password: str) -> bool:
        """False for an empty hash, after as long as for any other."""
        with self._one_at_a_time:
            try:
                self._hasher.verify(hashed or self._nobody, password.encode("utf-8", "surrogatepass"))
            except (VerificationError, InvalidHashError):
                return False
        return bool(hashed)
