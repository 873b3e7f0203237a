"""A link between two scan hosts and a witness that loses datagrams, or all of them, as a test wants."""

from __future__ import annotations

import random
import select
import socket
import threading


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Link:
    """Everything that goes between two addresses passes here: each side sees the other at an address of the link."""

    def __init__(self, a: int, b: int) -> None:
        self.cut = False
        self.loss = 0.0
        self.passed = 0
        self._random = random.Random(7)
        self._targets = (("127.0.0.1", b), ("127.0.0.1", a))
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for sock in self._sockets:
            sock.bind(("127.0.0.1", 0))
        self.for_a, self.for_b = (int(s.getsockname()[1]) for s in self._sockets)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        while not self._stop.is_set():
            ready, _, _ = select.select(self._sockets, [], [], 0.05)
            for sock in ready:
                data, _ = sock.recvfrom(2048)
                side = self._sockets.index(sock)
                if self.cut or self._random.random() < self.loss:
                    continue
                self.passed += 1
                self._sockets[1 - side].sendto(data, self._targets[side])

    def inject(self, data: bytes) -> None:
        """Gives both sides a datagram that looks as if it came from the other."""
        for sock, target in zip(self._sockets[::-1], self._targets, strict=True):
            sock.sendto(data, target)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for sock in self._sockets:
            sock.close()
