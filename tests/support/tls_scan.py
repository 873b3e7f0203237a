"""What a TLS port accepts: every version and cipher suite is tried, one handshake each, by the openssl command."""

from __future__ import annotations

import subprocess

# The client is told to offer even what is broken: a refusal must be the server's.
OLD = {"TLSv1": "-tls1", "TLSv1.1": "-tls1_1", "TLSv1.2": "-tls1_2"}
SUITES_13 = (
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
)


def scan(port: int, host: str = "127.0.0.1") -> dict[str, list[str]]:
    """Version -> the cipher suites the server takes with it; a version that it refuses is missing.

    Raises AssertionError when the client itself would not send the question, so that a refusal is never its own.
    """
    found: dict[str, list[str]] = {}
    for version, flag in OLD.items():
        suite = _handshake(host, port, flag, "-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        if suite:
            found[version] = [suite]
    taken = [one for one in SUITES_13 if _handshake(host, port, "-tls1_3", "-ciphersuites", one)]
    if taken:
        found["TLSv1.3"] = taken
    return found


def _handshake(host: str, port: int, *options: str) -> str:
    """The suite agreed on; empty when the server refuses."""
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", "localhost", *options]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=30, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert "bytes and written 0 bytes" not in said, f"the client sent nothing: {said[-500:]}"
    for line in said.splitlines():
        if line.startswith("New, ") and "Cipher is" in line:
            suite = line.rsplit(" ", 1)[-1]
            return "" if suite == "(NONE)" else suite
    return ""
