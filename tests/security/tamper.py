"""A man in the middle: a TCP proxy that flips bits, and a TLS server of another authority."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Self


class BitFlipper:
    """Forwards to ``target`` and flips one bit of every chunk the far side sends after the first ``spare`` bytes."""

    def __init__(self, target: tuple[str, int], spare: int) -> None:
        self.target, self.spare = target, spare
        self.flipped = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, tamper: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := bytearray(source.recv(1 << 16)):
                if tamper and passed + len(data) > self.spare:
                    data[-1] ^= 1
                    self.flipped += 1
                passed += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Impostor:
    """Listens with a certificate of its own; counts the requests it could read."""

    def __init__(self, chain: Path, key: Path, *, highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.read = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain, key)
        self._context.maximum_version = highest
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), line, self._context.wrap_socket(line, server_side=True) as safe:
                safe.settimeout(5)
                self.read += bool(safe.recv(4096))
