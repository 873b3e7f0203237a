"""A scan of both ports of an orchestrator that faces its callers itself: TLS 1.3, its strong suites, nothing else."""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.tls_scan import scan

STRONG = ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]


def test_both_ports_speak_tls_1_3_with_strong_suites_and_nothing_older(
    tmp_path: Path, key_folder: Path, lab: Any
) -> None:
    online = key_folder / "online"
    settings = lab.settings_for(tmp_path, key_folder)
    settings = replace(settings, operator_certificate=online / "server-chain.pem", operator_key=online / "server.pem")
    running = lab.start(settings, key_folder)
    try:
        for port in (running.ports.agents, running.ports.operators):
            assert scan(port) == {"TLSv1.3": STRONG}
    finally:
        running.stop()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2])
def test_the_scan_finds_what_a_careless_server_takes(key_folder: Path, version: ssl.TLSVersion) -> None:
    """Otherwise the test above could not fail."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = version
    context.load_cert_chain(key_folder / "online" / "server-chain.pem", key_folder / "online" / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(plain, server_side=True).close()
                except OSError:
                    plain.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found = scan(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
    assert "TLSv1.2" in found
    assert ("TLSv1" in found) == (version is ssl.TLSVersion.TLSv1)
    thread.join(10)
