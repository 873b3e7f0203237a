"""A TCP link that a test owns: it forwards, can be cut, and can go silent."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

CHUNK = 1 << 16


class Link:
    """Listens on a loopback port and forwards to ``target``, byte by byte, until told otherwise.

    ``cut`` closes everything and refuses, as an unplugged switch with a live stack behind it; ``stall`` keeps
    connections open and forwards nothing, as a dead radio link; ``restore`` forwards again.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.bytes_up = 0
        self.bytes_down = 0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"link-{self.port}", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        self._refuses = True
        self._hang_up()

    def stall(self) -> None:
        self._flows.clear()

    def restore(self) -> None:
        self._refuses = False
        self._flows.set()

    def close(self) -> None:
        self._refuses = True
        self._flows.set()
        self._listener.close()
        self._hang_up()

    def _hang_up(self) -> None:
        with self._lock:
            pairs = list(self._pairs)
            self._pairs.clear()
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                near.close()
                continue
            try:
                far = socket.create_connection(self.target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._pump, args=(near, far, pair, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, pair, False), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket], up: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._flows.wait()
                sink.sendall(data)
                if up:
                    self.bytes_up += len(data)
                else:
                    self.bytes_down += len(data)
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
