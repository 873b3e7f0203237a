"""Secrets open at the node, place and version they were sealed for, and nowhere else."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import secrets
from manifests.errors import TrustError

KEY = secrets.new_key()
PUBLIC = secrets.public_key(KEY)
PLACE = secrets.SecretPlace(site="hamburg", node="edge-1", instance="press", name="opc-password", version=3)


def test_a_secret_opens_where_it_was_sealed_for() -> None:
    sealed = secrets.seal(b"correct horse", PUBLIC, PLACE)
    assert b"correct horse" not in msgspec.json.encode(sealed)
    assert secrets.unseal(sealed, KEY, PLACE) == b"correct horse"


@pytest.mark.parametrize(
    "other",
    [
        {"site": "leipzig"}, {"node": "edge-2"}, {"instance": "pumps"}, {"name": "other"}, {"version": 2},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_a_secret_moved_elsewhere_or_back_in_time_does_not_open(other: dict[str, str | int]) -> None:
    sealed = secrets.seal(b"correct horse", PUBLIC, PLACE)
    place = msgspec.structs.replace(PLACE, **other)
    moved = msgspec.structs.replace(sealed, name=place.name, version=place.version)
    with pytest.raises(TrustError) as caught:
        secrets.unseal(moved, KEY, place)
    assert caught.value.kind == "bad-secret"


def test_another_nodes_key_opens_nothing() -> None:
    sealed = secrets.seal(b"correct horse", PUBLIC, PLACE)
    with pytest.raises(TrustError) as caught:
        secrets.unseal(sealed, secrets.new_key(), PLACE)
    assert caught.value.kind == "bad-secret"


@settings(max_examples=100)
@given(st.data())
def test_one_changed_byte_is_refused(data: st.DataObject) -> None:
    sealed = secrets.seal(b"correct horse", PUBLIC, PLACE)
    raw = bytearray(base64.b64decode(sealed.sealed))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TrustError):
        secrets.unseal(msgspec.structs.replace(sealed, sealed=base64.b64encode(raw).decode()), KEY, PLACE)


@given(st.text(max_size=60))
def test_whatever_stands_for_a_key_or_ciphertext_is_refused_by_name(text: str) -> None:
    with pytest.raises(TrustError):
        secrets.seal(b"x", text, PLACE)
    with pytest.raises(TrustError):
        secrets.unseal(msgspec.structs.replace(secrets.seal(b"x", PUBLIC, PLACE), sealed=text), KEY, PLACE)
    with pytest.raises(TrustError):
        secrets.unseal(secrets.seal(b"x", PUBLIC, PLACE), text.encode(), PLACE)


def test_a_key_of_all_zeros_and_an_endless_secret_are_refused() -> None:
    with pytest.raises(TrustError):  # its shared secret would be known to everybody (RFC 7748, section 6.1)
        secrets.seal(b"x", base64.b64encode(bytes(32)).decode(), PLACE)
    with pytest.raises(TrustError) as caught:
        secrets.seal(bytes(secrets.MAX_SECRET_BYTES + 1), PUBLIC, PLACE)
    assert caught.value.kind == "oversized"
