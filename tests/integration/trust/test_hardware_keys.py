"""A signing key in a token (PKCS#11), with SoftHSM in the token's place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from manifests import ceremony, kits, signing
from manifests.catalog import CatalogEditor
from manifests.errors import MachineError, TrustError
from manifests.model import WorkloadClass
from manifests.policy import Approval, Approver
from tests.support.releases import a_release

MODULE = next((p for p in Path("/usr/lib").glob("**/softhsm/libsofthsm2.so")), None)
NOW = datetime.now(UTC)
PATH = "control/tank/1.0.0/release.json"

pytestmark = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None, reason="SoftHSM is not installed (apt: softhsm2)"
)

_MAKE_KEY = """
import pkcs11, pkcs11.util.ec, sys
library = pkcs11.lib(sys.argv[1])
with library.get_token(token_label="anna").open(rw=True, user_pin="1234") as session:
    parameters = session.create_domain_parameters(
        pkcs11.KeyType.EC,
        {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1")}, local=True)
    parameters.generate_keypair(
        store=True, id=bytes([2]), label="anna", mechanism_param=None,
        private_template={pkcs11.Attribute.SIGN: True})
"""


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kits.Token:
    """The library reads its configuration once per process, so each test's work runs with this environment."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    made = ["softhsm2-util", "--init-token", "--free", "--label", "anna", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(made, check=True, capture_output=True, env=os.environ)
    subprocess.run([sys.executable, "-c", _MAKE_KEY, str(MODULE)], check=True, env=os.environ)
    return kits.Token(module=str(MODULE), keyid=2, label="anna")


def test_a_person_approves_with_a_key_that_never_leaves_the_token(tmp_path: Path, token: kits.Token) -> None:
    folder = tmp_path / "keys"
    ceremony.init_keys(folder, server_names=["localhost"], now=NOW)
    catalog, offline = folder / "online" / "catalog", folder / "offline"
    anna = tmp_path / "anna"
    anna.mkdir()
    (anna / "anna.pub.json").write_bytes(kits.import_token("anna", token))
    shutil.copy(offline / "catalog.root.json", anna)
    member = kits.read_member(anna / "anna.pub.json")

    office = CatalogEditor.open(catalog, offline)
    held = kits.read_member(offline / "approve-ot.pub.json").key
    root = ceremony.widen_snapshot(
        office.root, [member.key], kits.Kit.open([offline]).signers([_root_key(office.root)], lambda _: ""), now=NOW
    )
    assert root is not None
    office.adopt_root(root)
    office.delegate("approve-ot", [held, member.key])
    office.add(a_release("tank", "1.0.0", WorkloadClass.CONTROL))
    for name, data in office.sign(NOW).items():
        (catalog / name).write_bytes(data)

    asked: list[str] = []

    def pin(what: str) -> str:
        asked.append(what)
        return "1234"

    editor = CatalogEditor.open(catalog, anna, pin)
    editor.approve(Approver.OT, PATH, Approval(name="Anna", meaning="approved for use", at="2026-06-01T00:00:00Z"))
    before = {path.name: path.read_bytes() for path in catalog.iterdir()}
    view = signing.verify_catalog_update(
        (offline / "catalog.root.json").read_bytes(), before, {**before, **editor.sign(NOW)}, NOW
    )
    assert view.approvals[PATH] == (Approver.OT,)
    assert asked == ["PIN of anna"]

    wrong = CatalogEditor.open(catalog, anna, lambda _: "0000")
    wrong.approve(Approver.OT, PATH, Approval(name="Anna", meaning="again", at="2026-06-01T00:00:00Z"))
    with pytest.raises(TrustError) as caught:
        wrong.sign(NOW)
    assert caught.value.kind == "passphrase"

    with pytest.raises(MachineError) as missing:
        kits.import_token("ben", kits.Token(module=str(MODULE), keyid=2, label="ben"))
    assert "token ben" in str(missing.value)


def _root_key(root: bytes) -> str:
    from tuf.api.metadata import Root

    return signing.parse(root, Root, "root.json").signed.roles["root"].keyids[0]
