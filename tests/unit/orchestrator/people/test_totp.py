"""One-time codes against the vectors of RFC 4226 and RFC 6238."""

from __future__ import annotations

import pytest

from orchestrator.people import totp

SECRET = b"12345678901234567890"
# RFC 6238 appendix B, SHA-1; its eight digits end in the six that we use.
TIMES = {59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037"}
# RFC 4226 appendix D.
COUNTS = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]


def test_codes_are_those_of_rfc_4226() -> None:
    assert [totp.code(SECRET, count) for count in range(10)] == COUNTS


@pytest.mark.parametrize(("now_s", "eight"), TIMES.items())
def test_codes_are_those_of_rfc_6238(now_s: int, eight: str) -> None:
    assert totp.used_step(SECRET, eight[-6:], now_s, 0) == now_s // 30


def test_a_clock_may_be_half_a_minute_off_and_no_more() -> None:
    now_s = 30 * 1000 + 5.0
    assert [totp.used_step(SECRET, totp.code(SECRET, 1000 + off), now_s, 0) for off in (-2, -1, 0, 1, 2)] == [
        None, 999, 1000, 1001, None,
    ]  # fmt: skip


def test_a_used_step_and_those_before_it_are_refused() -> None:
    now_s = 30 * 1000.0
    assert totp.used_step(SECRET, totp.code(SECRET, 1000), now_s, 999) == 1000
    assert totp.used_step(SECRET, totp.code(SECRET, 1000), now_s, 1000) is None
    assert totp.used_step(SECRET, totp.code(SECRET, 999), now_s, 1000) is None


@pytest.mark.parametrize("said", ["", "12345", "1234567", "abcdef", "１２３４５６", "\ud800", "-12345"])
def test_what_is_no_code_is_refused(said: str) -> None:
    assert totp.used_step(SECRET, said, 59.0, 0) is None


def test_spaces_are_how_people_read_codes() -> None:
    assert totp.used_step(SECRET, "287 082", 59.0, 0) == 1


def test_the_uri_can_be_read_by_an_authenticator() -> None:
    assert totp.from_text(totp.text(b"\x01" * 20)) == b"\x01" * 20
    assert totp.uri(SECRET, "ada@acme", "Sluice") == (
        "otpauth://totp/Sluice:ada%40acme?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Sluice&digits=6"
    )
