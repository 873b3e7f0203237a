"""The pump skid over real Modbus TCP: two independent clients agree, holes refuse, a frozen skid is silent."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ModbusPDU

from tests.simulators.launch import ROOT, Simulator, started
from tests.simulators.pump_registers import NAME_PLATE, TABLE, Register, decode, find
from tests.support.peers import PeerFailedError, mbpoll_read

ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
NO_RESPONSE = 11


@pytest.fixture(scope="module")
def pump() -> Iterator[Simulator]:
    with started("pump_skid", "--tick", "50") as simulator:
        yield simulator


@pytest.fixture
async def client(pump: Simulator) -> AsyncIterator[AsyncModbusTcpClient]:
    # No retries: a silent device must show as silence.
    client = AsyncModbusTcpClient(pump.host, port=pump.port, timeout=1, retries=0, reconnect_delay=0)
    assert await client.connect()
    yield client
    client.close()


async def registers(client: AsyncModbusTcpClient, register: Register) -> list[int]:
    read = client.read_input_registers if register.area == "input" else client.read_holding_registers
    answer = await read(register.address, count=register.size, device_id=1)
    assert not answer.isError(), answer
    return list(answer.registers)


async def answers(client: AsyncModbusTcpClient) -> bool:
    try:
        await client.read_input_registers(0, count=2, device_id=1)
    except ModbusIOException:
        return False
    return True


def exception_of(answer: ModbusPDU) -> int | None:
    return answer.exception_code if answer.isError() else None


@pytest.mark.peer
async def test_mbpoll_and_pymodbus_read_the_same_name_plate(pump: Simulator, client: AsyncModbusTcpClient) -> None:
    compared = 0
    for register in TABLE:
        if register.name not in NAME_PLATE:
            continue
        words = await registers(client, register)
        raw = mbpoll_read(pump.host, pump.port, 1, "holding", register.address, "uint16", register.size)
        assert raw == words, register.name
        assert decode(register, words) == pytest.approx(NAME_PLATE[register.name])
        compared += 1
    assert compared == len(NAME_PLATE)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "kind"),
    [("rated_flow_m3_h", "float32"), ("rated_head_m", "float32 CDAB"), ("commissioned", "int32 CDAB")],
)
def test_mbpoll_decodes_the_documented_word_order(pump: Simulator, name: str, kind: str) -> None:
    [read] = mbpoll_read(pump.host, pump.port, 1, "holding", find(name).address, kind)
    assert read == pytest.approx(NAME_PLATE[name], rel=1e-5)


@pytest.mark.peer
def test_mbpoll_reads_the_commands_as_bits(pump: Simulator) -> None:
    assert mbpoll_read(pump.host, pump.port, 1, "coil", 0, "bool", 3) == [1, 1, 0]
    assert mbpoll_read(pump.host, pump.port, 1, "discrete", 7, "bool") == [0]


@pytest.mark.peer
@pytest.mark.parametrize(("table", "address", "count"), [("input", 28, 4), ("holding", 18, 13), ("input", 64, 3)])
def test_a_read_across_a_hole_is_refused_to_mbpoll_too(pump: Simulator, table: str, address: int, count: int) -> None:
    with pytest.raises(PeerFailedError, match="Illegal data address"):
        mbpoll_read(pump.host, pump.port, 1, table, address, "uint16", count)


async def test_a_read_across_a_hole_gives_exception_2_and_both_sides_of_it_answer(
    client: AsyncModbusTcpClient,
) -> None:
    assert exception_of(await client.read_input_registers(0, count=66, device_id=1)) == ILLEGAL_ADDRESS
    assert exception_of(await client.read_input_registers(30, count=1, device_id=1)) == ILLEGAL_ADDRESS
    assert exception_of(await client.read_input_registers(39, count=2, device_id=1)) == ILLEGAL_ADDRESS
    assert exception_of(await client.read_input_registers(0, count=30, device_id=1)) is None
    assert exception_of(await client.read_input_registers(40, count=26, device_id=1)) is None
    assert exception_of(await client.read_holding_registers(18, count=2, device_id=1)) == ILLEGAL_ADDRESS
    assert exception_of(await client.read_holding_registers(0, count=19, device_id=1)) is None
    assert exception_of(await client.read_holding_registers(30, count=30, device_id=1)) is None


async def test_every_documented_register_can_be_read_alone(client: AsyncModbusTcpClient) -> None:
    for register in TABLE:
        if register.area in ("input", "holding"):
            assert len(await registers(client, register)) == register.size


async def test_another_unit_is_refused_as_by_a_gateway(client: AsyncModbusTcpClient) -> None:
    assert exception_of(await client.read_input_registers(0, count=1, device_id=2)) == NO_RESPONSE
    assert exception_of(await client.read_input_registers(0, count=1, device_id=1)) is None


async def test_a_read_is_never_torn_and_the_counter_never_jumps(client: AsyncModbusTcpClient) -> None:
    seen: list[int] = []
    while not seen or seen[-1] < seen[0] + 15:
        answer = await client.read_input_registers(40, count=26, device_id=1)
        elapsed_ms = decode(find("simulated_ms"), list(answer.registers[20:24]))
        counter = decode(find("sample_counter_copy"), list(answer.registers[24:26]))
        assert isinstance(counter, int)
        # The machine's own clock moved by exactly one tick per count: no tick was skipped or counted twice.
        assert elapsed_ms == counter * 50
        assert not seen or counter >= seen[-1]
        seen.append(counter)
        await asyncio.sleep(0.01)


def test_requests_sent_together_are_all_answered_in_order(pump: Simulator) -> None:
    def request(transaction: int, unit: int = 1, address: int = 0) -> bytes:
        return struct.pack(">HHHBBHH", transaction, 0, 6, unit, 4, address, 2)

    together = request(1) + request(2) + request(3, unit=9) + request(4, address=30) + request(5)
    with socket.create_connection((pump.host, pump.port), timeout=10) as connection:
        answers = connection.makefile("rb")
        # The last request arrives in two pieces.
        connection.sendall(together[:-5])
        heads = [answers.read(9)]
        connection.sendall(together[-5:])
        for number in range(5):
            transaction, _, length, unit, function, code = struct.unpack(">HHHBBB", heads[-1])
            assert transaction == number + 1
            refused = {3: NO_RESPONSE, 4: ILLEGAL_ADDRESS}.get(transaction)
            assert (unit, function, code) == ((9 if number == 2 else 1), 0x84, refused) if refused else (1, 4, 4)
            answers.read(length - 3)
            if number < 4:
                heads.append(answers.read(9))


async def test_the_pump_obeys_its_run_command_and_set_point(client: AsyncModbusTcpClient) -> None:
    async def until(name: str, low: float, high: float) -> None:
        async with asyncio.timeout(60):
            value = math.nan
            while not low <= value <= high:
                await asyncio.sleep(0.05)
                value = float(decode(find(name), await registers(client, find(name))))

    assert exception_of(await client.write_register(0, 900, device_id=1)) is None
    await until("speed_rpm", 880, 920)
    assert exception_of(await client.write_coil(0, False, device_id=1)) is None
    await until("speed_rpm", 0, 0)
    assert (await client.read_coils(0, count=3, device_id=1)).bits[:3] == [False, True, False]
    assert exception_of(await client.write_coils(0, [True, True, True], device_id=1)) is None
    assert exception_of(await client.write_registers(0, [2900, 7000], device_id=1)) is None
    await until("speed_rpm", 1000, 3000)


async def test_bad_writes_are_refused_and_change_nothing(client: AsyncModbusTcpClient) -> None:
    before = (await client.read_holding_registers(0, count=19, device_id=1)).registers
    assert exception_of(await client.write_register(0, 3001, device_id=1)) == ILLEGAL_VALUE
    assert exception_of(await client.write_registers(0, [2000, 60000], device_id=1)) == ILLEGAL_VALUE
    assert exception_of(await client.write_register(9, 1, device_id=1)) == ILLEGAL_ADDRESS
    assert exception_of(await client.write_registers(7, [0x4000, 1], device_id=1)) == ILLEGAL_ADDRESS
    assert (await client.read_holding_registers(0, count=19, device_id=1)).registers == before


async def test_a_frozen_skid_keeps_its_connection_and_answers_nothing_until_resumed() -> None:
    with started("pump_skid", "--tick", "50") as pump:
        client = AsyncModbusTcpClient(pump.host, port=pump.port, timeout=0.5, retries=0, reconnect_delay=0)
        assert await client.connect()
        try:
            before = await registers(client, find("sample_counter"))
            pump.freeze()
            # The signal takes a moment to arrive; afterwards nothing must get through.
            async with asyncio.timeout(30):
                while await answers(client):
                    pass
            for _ in range(2):
                with pytest.raises(ModbusIOException):
                    await client.read_input_registers(0, count=2, device_id=1)
            assert client.connected, "the skid closed the connection instead of falling silent"
            newcomer = AsyncModbusTcpClient(pump.host, port=pump.port, timeout=0.5, retries=0, reconnect_delay=0)
            assert await newcomer.connect(), "TCP must stay up"
            with pytest.raises(ModbusIOException):
                await newcomer.read_input_registers(0, count=2, device_id=1)
            newcomer.close()
            pump.resume()
            async with asyncio.timeout(30):
                while not await answers(client):
                    pass
            after = await registers(client, find("sample_counter"))
            # The machine ran on meanwhile: at least the three silent time-outs, ten ticks each.
            counter = find("sample_counter")
            assert int(decode(counter, after)) >= int(decode(counter, before)) + 30
        finally:
            client.close()


def test_sigterm_ends_the_skid_with_success() -> None:
    with started("pump_skid") as pump:
        pump.process.terminate()
        assert pump.process.wait(15) == 0


def test_a_taken_port_is_named_with_a_remedy(pump: Simulator) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulators.pump_skid", "--host", pump.host, "--port", str(pump.port)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot listen on {pump.host}:{pump.port}" in done.stderr
    assert "--port" in done.stderr
    assert done.stdout == ""
