"""One TCP connection to a Modbus device: a request, its answer, a deadline.

Called by `driver`, which waits: it is alone in its process. Answers that come too late belong to nobody and are thrown
away by their transaction number; anything that is no Modbus ends the connection.
"""

from __future__ import annotations

import socket
import struct
import time

_HEAD = struct.Struct(">HHHB")
_MAX_PDU = 253
_LATE = 32  # more late answers than that are no answers

EXCEPTIONS = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure", 5: "acknowledge",
    6: "device busy", 8: "memory parity error", 10: "gateway path unavailable", 11: "gateway target did not respond",
}  # fmt: skip


class Refusal(Exception):  # noqa: N818 - an answer of the device
    """An exception code: the device answers, but not with what was asked for."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{EXCEPTIONS.get(code, 'exception')} (code {code})")
        self.code = code


class Silence(Exception):  # noqa: N818 - a state of the line
    """No answer in time; the connection stays as it is."""


class Lost(Exception):  # noqa: N818 - a state of the line
    """There is no connection any more."""


class Line:
    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        """Connects; raises Lost."""
        self.timeout_s = timeout_s
        self._number = 0
        self._rest = b""
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise Lost(f"no connection: {error.strerror or error}") from error

    def close(self) -> None:
        self._socket.close()

    def ask(self, unit: int, pdu: bytes) -> bytes:
        """The answer's PDU. Raises Refusal, Silence or Lost."""
        self._number = self._number + 1 & 0xFFFF
        end = time.monotonic() + self.timeout_s
        try:
            self._socket.settimeout(self.timeout_s)
            self._socket.sendall(_HEAD.pack(self._number, 0, len(pdu) + 1, unit) + pdu)
            for _ in range(_LATE):
                number, answered, answer = self._receive(end)
                if number == self._number:
                    break
            else:
                raise Lost("the device answers requests that nobody made")
        except TimeoutError:
            raise Silence(f"no answer within {self.timeout_s * 1000:g} ms") from None
        except OSError as error:
            raise Lost(f"the connection broke: {error.strerror or error}") from error
        if answered != unit or answer[0] & 0x7F != pdu[0]:
            raise Lost(f"unit {answered} answers function {answer[0]}, asked were {unit} and {pdu[0]}")
        if answer[0] & 0x80:
            raise Refusal(answer[1] if len(answer) > 1 else 0)
        return answer

    def _receive(self, end: float) -> tuple[int, int, bytes]:
        head = self._exactly(_HEAD.size, end)
        number, protocol, length, unit = _HEAD.unpack(head)
        if protocol != 0 or not 2 <= length <= _MAX_PDU + 1:
            raise Lost("the device does not speak Modbus TCP")
        try:
            return number, unit, self._exactly(length - 1, end)
        except TimeoutError:
            self._rest = head + self._rest  # the rest of a late answer still belongs to this head
            raise

    def _exactly(self, size: int, end: float) -> bytes:
        while len(self._rest) < size:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            more = self._socket.recv(4096)
            if not more:
                raise Lost("the device closed the connection")
            self._rest += more
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
