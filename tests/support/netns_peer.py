"""One end of real packets inside the network of a container: serves ports, or calls one and says what happened.

Run by tests with ``nsenter``; see ``call`` and ``serve``.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Sequence


def command(pid: int, *arguments: str) -> list[str]:
    return ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, __file__, *arguments]


def call(pid: int, host: str, port: int, *, protocol: str = "tcp", send: Sequence[bytes] = (b"?",)) -> str:
    """``open`` when every message came back, else ``refused`` or ``silent``; from inside the network of ``pid``.

    The test's own ``pid`` is the machine itself. ``tcp-urgent``: as urgent data, whose last byte receivers take out of
    the stream. ``tcp-blind``: the messages go out one after the other, whatever comes back; then as ``tcp``.
    """
    messages = [message.hex() for message in send]
    run = command(pid, "call", protocol, host, str(port), *messages)
    return subprocess.run(run, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def serve(pid: int, *ports: int) -> subprocess.Popen[str]:
    """Echo on these TCP and UDP ports inside the network of ``pid``; it answers when this returns."""
    run = command(pid, "serve", *map(str, ports))
    process = subprocess.Popen(run, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _call(protocol: str, host: str, port: int, messages: Sequence[bytes]) -> str:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    urgent = protocol == "tcp-urgent"
    with socket.socket(socket.AF_INET, kind) as line:
        line.settimeout(1.5)
        try:
            line.connect((host, port))
            if kind == socket.SOCK_STREAM:
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if protocol == "tcp-blind":
                for message in messages:
                    line.send(message)
                messages = [b"".join(messages)]
            for message in messages:
                if protocol != "tcp-blind":
                    line.send(message, socket.MSG_OOB if urgent else 0)
                back = b""
                while len(back) < len(message) - urgent:
                    back += line.recv(65536) or b"\0" * len(message)
        except TimeoutError:
            return "silent"
        except OSError:
            return "refused"
    return "open"


def _serve(ports: Sequence[int]) -> None:
    def echo(line: socket.socket) -> None:
        while data := line.recv(65536):
            line.sendall(data)

    def accept(listener: socket.socket) -> None:
        while True:
            line, _ = listener.accept()
            threading.Thread(target=echo, args=(line,), daemon=True).start()

    def answer(line: socket.socket) -> None:
        while True:
            data, whom = line.recvfrom(65536)
            line.sendto(data, whom)

    for port in ports:
        listener = socket.create_server(("0.0.0.0", port))
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("0.0.0.0", port))
        threading.Thread(target=answer, args=(udp,), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve([int(port) for port in sys.argv[2:]])
    else:
        print(_call(sys.argv[2], sys.argv[3], int(sys.argv[4]), [bytes.fromhex(one) for one in sys.argv[5:]]))
