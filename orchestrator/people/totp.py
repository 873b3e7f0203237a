"""One-time codes of an authenticator (RFC 6238 over RFC 4226: SHA-1, six digits, 30 s). Pure: time is a value.

The caller keeps the step that was used last: a code is good once, also within its 30 seconds.
"""

from __future__ import annotations

import base64
import hmac
import struct
from urllib.parse import quote

STEP_S = 30
DIGITS = 6
DRIFT_STEPS = 1  # a telephone's clock may be half a minute off
SECRET_BYTES = 20  # as long as the hash, RFC 4226 section 4


def code(secret: bytes, step: int) -> str:
    """The code of one step, counted from the Unix epoch."""
    mac = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    at = mac[-1] & 0x0F
    return f"{(int.from_bytes(mac[at : at + 4]) & 0x7FFF_FFFF) % 10**DIGITS:0{DIGITS}}"


def used_step(secret: bytes, said: str, now_s: float, last_step: int) -> int | None:
    """The step whose code ``said`` is, if it is later than ``last_step``; None when the code is not good."""
    said = said.replace(" ", "")
    current = int(now_s) // STEP_S
    found: int | None = None
    for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
        same = hmac.compare_digest(code(secret, step).encode(), said.encode("utf-8", "replace"))
        if same and step > last_step:
            found = step
    return found


def uri(secret: bytes, user: str, issuer: str) -> str:
    """What the authenticator reads, mostly as a QR code (Key Uri Format)."""
    label = f"{quote(issuer, safe='')}:{quote(user, safe='')}"
    return f"otpauth://totp/{label}?secret={text(secret)}&issuer={quote(issuer, safe='')}&digits={DIGITS}"


def text(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")


def from_text(secret: str) -> bytes:
    return base64.b32decode(secret + "=" * (-len(secret) % 8))
