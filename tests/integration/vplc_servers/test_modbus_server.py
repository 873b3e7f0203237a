"""The Modbus server beside a real host: independent clients read and write, bad ones harm nobody."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import subprocess
import threading

import pytest
from pymodbus.client import AsyncModbusTcpClient

from tests.integration.vplc_scan.scan_site import compile_st, until
from tests.integration.vplc_servers.server_site import Plant, feed
from tests.support.peers import PeerFailedError, mbpoll_read
from vplc.scan import change

WRITABLE = [{"path": "limit", "min": 0, "max": 100}, "wrd", "mark", "flag"]
PAIRS = """
VAR_GLOBAL a AT %MW0 : INT; rows AT %MW1 : ARRAY[1..120] OF INT; END_VAR
PROGRAM Main
VAR n : INT; END_VAR
a := a + 1;
FOR n := 1 TO 120 DO rows[n] := a; END_FOR;
END_PROGRAM
CONFIGURATION C RESOURCE R ON Any
TASK Fast(INTERVAL := T#2ms, PRIORITY := 1); PROGRAM One WITH Fast : Main;
END_RESOURCE END_CONFIGURATION
"""


async def client(port: int) -> AsyncModbusTcpClient:
    made = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5, retries=0)
    assert await made.connect()
    return made


async def test_pymodbus_reads_and_writes_what_is_granted(plant: Plant) -> None:
    plant.host()
    feed(plant.site, 812, 0.2)
    c = await client(plant.serve("modbus", writable=WRITABLE))
    assert (await c.read_input_registers(2, count=1)).registers == [812]
    limit = await c.read_holding_registers(1028, count=2)
    assert struct.unpack(">f", struct.pack(">2H", *limit.registers)) == (12.5,)
    written = await c.write_registers(1026, list(struct.unpack(">4H", struct.pack(">if", -5, 33.25))))
    assert not written.isError()
    again = await c.read_holding_registers(1026, count=4)
    assert struct.unpack(">if", struct.pack(">4H", *again.registers)) == (-5, 33.25)
    assert not (await c.write_coil(8192 + 17, True)).isError()
    assert (await c.read_coils(8192 + 17, count=1)).bits[0] is True
    both = await c.readwrite_registers(read_address=1026, read_count=2, write_address=1024, values=[7])
    assert struct.unpack(">i", struct.pack(">2H", *both.registers)) == (-5,)
    c.close()
    entries = [(e["path"], e["value"], e["before"]) for e in plant.journal() if e["what"] == "write"]
    assert entries == [("mark", -5, 0), ("limit", 33.25, 12.5), ("flag", True, False), ("wrd", 7, 0)]
    assert all(e["who"] == "modbus client 127.0.0.1" and e["via"] == "modbus" for e in plant.journal())


async def test_nothing_else_can_be_written(plant: Plant) -> None:
    plant.host()
    c = await client(plant.serve("modbus", writable=WRITABLE))
    for address, values, code in (
        (1030, [1], 2), (4, [1], 2), (1026, [1], 2), (1028, list(struct.unpack(">2H", struct.pack(">f", 101))), 3),
    ):  # fmt: skip
        answer = await c.write_registers(address, values)
        assert answer.isError()
        assert answer.exception_code == code, address
    assert (await c.write_coil(3, True)).exception_code == 2
    assert (await c.read_holding_registers(500, count=1)).exception_code == 2
    c.close()
    assert plant.journal() == []


@pytest.mark.peer
def test_mbpoll_reads_every_table(plant: Plant) -> None:
    plant.host()
    feed(plant.site, -5, 0.2)
    port = plant.serve("modbus", writable=WRITABLE)
    threading.Thread(target=feed, args=(plant.site, -5, 3.0), daemon=True).start()
    assert mbpoll_read("127.0.0.1", port, 1, "input", 2, "int16") == [-5]
    assert mbpoll_read("127.0.0.1", port, 1, "holding", 1028, "float32") == [12.5]
    assert mbpoll_read("127.0.0.1", port, 1, "coil", 0, "bool", count=4) == [0, 0, 0, 0]
    assert mbpoll_read("127.0.0.1", port, 1, "discrete", 32, "bool", count=16) == [
        float(0xFFFB >> n & 1) for n in range(16)
    ]
    with pytest.raises(PeerFailedError, match=r"[Ii]llegal data address"):
        mbpoll_read("127.0.0.1", port, 1, "holding", 3000, "uint16")


@pytest.mark.peer
def test_mbpoll_writes_what_is_granted_and_nothing_else(plant: Plant) -> None:
    plant.host()
    port = plant.serve("modbus", writable=WRITABLE)

    def poll(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["mbpoll", "-m", "tcp", "-p", str(port), "-a", "1", "-0", "-1", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert poll("-r", "1028", "-t", "4:float", "-B", "127.0.0.1", "55.5").returncode == 0
    assert mbpoll_read("127.0.0.1", port, 1, "holding", 1028, "float32") == [55.5]
    refused = poll("-r", "1030", "-t", "4", "127.0.0.1", "5")
    assert "Illegal data address" in refused.stdout + refused.stderr


async def test_one_answer_is_one_scan(plant: Plant) -> None:
    plant.host(PAIRS, drivers={})
    c = await client(plant.serve("modbus"))
    seen = set()
    for _ in range(100):
        found = (await c.read_holding_registers(1024, count=121)).registers
        assert len(set(found)) == 1, found
        seen.add(found[0])
    assert len(seen) > 50
    c.close()


async def test_answers_go_on_when_the_host_is_back(plant: Plant) -> None:
    host = plant.host()
    c = await client(plant.serve("modbus"))
    assert not (await c.read_holding_registers(1024, count=1)).isError()
    host.kill()
    host.wait()
    assert (await c.read_holding_registers(1024, count=1)).exception_code == 4
    plant.host()
    assert not (await c.read_holding_registers(1024, count=1)).isError()
    c.close()


async def test_an_online_change_moves_variables_under_the_client(plant: Plant) -> None:
    first = "VAR_GLOBAL a AT %MW0 : INT := 1; END_VAR PROGRAM Main VAR x : INT; END_VAR x := 1; END_PROGRAM"
    plant.host(first, drivers={})
    c = await client(plant.serve("modbus", writable=["a"]))
    assert (await c.read_holding_registers(1024, count=1)).registers == [1]
    second = first.replace("x : INT;", "x : INT; y : ARRAY[1..500] OF LREAL;")
    more = "VAR_GLOBAL i AT %IW9 : INT; b AT %MW1 : INT := 2; END_VAR PROGRAM Main"
    second = second.replace("PROGRAM Main", more)
    plant.site.configure(compile_st(plant.folder, second, "second"), drivers={})
    verdict = await asyncio.to_thread(change.change, plant.site.run, plant.folder / "scan.json")
    assert verdict.taken_over
    assert (await c.read_holding_registers(1024, count=2)).registers == [1, 2]
    assert not (await c.write_register(1024, 9)).isError()
    assert (await c.read_holding_registers(1024, count=2)).registers == [9, 2]
    c.close()


def test_too_many_connections_are_closed_and_silent_ones_too(plant: Plant) -> None:
    plant.host()
    port = plant.serve("modbus", connections=2, idle_timeout_s=1, frame_timeout_s=0.3)
    ask = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 1024, 1)

    def answers(s: socket.socket) -> bool:
        try:
            s.sendall(ask)
            return len(s.recv(100)) == 11
        except OSError:
            return False

    first, second = (socket.create_connection(("127.0.0.1", port), 5) for _ in range(2))
    assert answers(first)
    assert answers(second)
    third = socket.create_connection(("127.0.0.1", port), 5)
    assert not answers(third)
    second.sendall(ask[:5])  # and nothing more
    assert until("the slow client is closed", lambda: second.recv(10) == b"")
    assert until("the silent client is closed", lambda: first.recv(10) == b"")
    fourth = socket.create_connection(("127.0.0.1", port), 5)
    assert answers(fourth)
    for s in (first, second, third, fourth):
        s.close()


def test_noise_harms_nobody(plant: Plant) -> None:
    plant.host()
    port = plant.serve("modbus", writable=WRITABLE, frame_timeout_s=0.2, connections=50)
    noise = random.Random(5)
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            pdu = noise.randbytes(noise.randrange(0, 260))
            if noise.random() < 0.6 and pdu:  # a right header, so that the request itself is looked at
                pdu = bytes([noise.choice([1, 2, 3, 4, 5, 6, 15, 16, 23, pdu[0]])]) + pdu[1:]
                s.sendall(struct.pack(">HHHB", 9, 0, len(pdu) + 1, 1) + pdu)
            else:
                s.sendall(pdu)
    until("a plain request is answered", lambda: registers_read(port) == 1)
    assert plant.servers[0].poll() is None


def registers_read(port: int) -> int:
    """How many registers come back to a plain request; 0 when there were too many connections."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            s.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 1030, 1))
            return (s.recv(100) or bytes(9))[8] // 2
    except OSError:
        return 0


def test_a_configuration_that_does_not_fit_the_program_is_refused_whole(plant: Plant) -> None:
    plant.host()
    settings = {"writable": ["limt", "level"], "map": {"holding_registers": {"outputs": 0, "memory": 2}}}
    server = plant.start_server("modbus", settings)
    _, errors = server.communicate(timeout=30)
    assert server.returncode == 1
    for piece in ('did you mean "limit"?', "is written by driver io", "%Q of this program needs the addresses 0 to 4"):
        assert piece in errors, errors
    assert "Traceback" not in errors
