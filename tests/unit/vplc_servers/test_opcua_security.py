"""Who may log in, and which applications may connect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from asyncua.common.utils import ServiceError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vplc.servers.configuration import User
from vplc.servers.opcua.security import Trust, Users, own_certificate

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
Made = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def certificate(name: str, by: Made | None = None, ca: bool = False, days: int = 10) -> Made:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signer = by[0] if by else key
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(by[1].subject if by else subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=20)).not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )  # fmt: skip
    return key, made


def der(made: Made) -> bytes:
    return made[1].public_bytes(serialization.Encoding.DER)


def test_roles_come_from_the_configuration() -> None:
    users = Users([User("anna", "operator", CHEAP.hash("a")), User("otto", "observer", CHEAP.hash("o"))], True)
    anna, otto = users.get_user(None, "anna", "a"), users.get_user(None, "otto", "o")
    assert anna is not None
    assert otto is not None
    assert (anna.operates, otto.operates) == (True, False)
    assert users.get_user(None, "anna", "o") is None
    assert users.get_user(None, "admin", "") is None
    nobody = users.get_user(None)
    assert nobody is not None
    assert not nobody.operates


def test_without_anonymous_nobody_gets_in_unnamed() -> None:
    assert Users([User("anna", "operator", CHEAP.hash("a"))], False).get_user(None) is None


def test_guessing_ends_after_five_wrong_passwords_and_for_that_user_only() -> None:
    now = [0.0]
    users = Users([User(n, "operator", CHEAP.hash("right")) for n in ("anna", "otto")], True, lambda: now[0])
    for _ in range(5):
        assert users.get_user(None, "anna", "wrong") is None
    assert users.get_user(None, "anna", "right") is None
    assert users.get_user(None, "otto", "right") is not None
    now[0] += 31
    assert users.get_user(None, "anna", "right") is not None


def test_a_certificate_can_say_who_somebody_is(tmp_path: Path) -> None:
    made = certificate("hmi")
    (tmp_path / "hmi.der").write_bytes(der(made))
    users = Users([User("hmi", "operator", certificate=tmp_path / "hmi.der")], False)
    found = users.get_user(None, certificate=der(made))
    assert found is not None
    assert found.operates
    assert users.get_user(None, certificate=der(certificate("hmi"))) is None


def refused(check: Callable[[bytes], None], data: bytes) -> bool:
    try:
        check(data)
    except ServiceError:
        return True
    return False


def test_strangers_are_refused_and_kept_for_the_engineer(tmp_path: Path) -> None:
    trust, stranger = Trust(tmp_path), der(certificate("stranger"))
    assert refused(trust.check, stranger)
    [kept] = (tmp_path / "rejected").iterdir()
    assert kept.read_bytes() == stranger
    kept.rename(tmp_path / "trusted" / kept.name)
    assert not refused(trust.check, stranger)


def test_the_folder_of_strangers_does_not_grow_for_ever(tmp_path: Path) -> None:
    trust = Trust(tmp_path)
    for n in range(55):
        assert refused(trust.check, der(certificate(f"s{n}")))
    assert len(list((tmp_path / "rejected").iterdir())) == 50


def test_an_authority_vouches_for_those_it_issued(tmp_path: Path) -> None:
    trust, authority = Trust(tmp_path), certificate("authority", ca=True)
    (tmp_path / "trusted" / "authority.pem").write_bytes(authority[1].public_bytes(serialization.Encoding.PEM))
    assert not refused(trust.check, der(certificate("hmi", authority)))
    assert refused(trust.check, der(certificate("other", certificate("authority", ca=True))))


def test_a_trusted_application_is_no_authority(tmp_path: Path) -> None:
    trust, application = Trust(tmp_path), certificate("application")
    (tmp_path / "trusted" / "application.der").write_bytes(der(application))
    assert refused(trust.check, der(certificate("friend", application)))


def test_a_lapsed_certificate_and_no_certificate_are_refused(tmp_path: Path) -> None:
    trust, old = Trust(tmp_path), certificate("old", days=-5)
    (tmp_path / "trusted" / "old.der").write_bytes(der(old))
    assert refused(trust.check, der(old))
    assert refused(trust.check, b"")
    assert refused(trust.check, b"no certificate")


def test_the_own_certificate_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    key, path = own_certificate(tmp_path, "urn:here:sluice:vplc:tank", "127.0.0.1")
    assert key.stat().st_mode & 0o077 == 0
    first = path.read_bytes()
    own_certificate(tmp_path, "urn:here:sluice:vplc:tank", "127.0.0.1")
    assert path.read_bytes() == first
    names = x509.load_der_x509_certificate(first).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:here:sluice:vplc:tank"]


@pytest.mark.parametrize("text", ["", "not a hash", "$argon2id$v=19$broken"])
def test_a_broken_hash_lets_nobody_in(text: str) -> None:
    assert Users([User("anna", "operator", text)], True).get_user(None, "anna", "x") is None
