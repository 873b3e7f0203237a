"""The tank over real Modbus TCP, read and written by a client."""

from __future__ import annotations

from pymodbus.client import AsyncModbusTcpClient

from tests.simulators.launch import started


async def test_a_client_drives_the_pump_and_sees_it_in_the_books() -> None:
    with started("tank", "--failsafe", "60000") as tank:
        client = AsyncModbusTcpClient(tank.host, port=tank.port, timeout=5, retries=0, reconnect_delay=0)
        assert await client.connect()
        before = (await client.read_input_registers(4, count=2, device_id=1)).registers
        assert not (await client.write_registers(0, [700], device_id=1)).isError()
        assert (await client.read_holding_registers(0, count=2, device_id=1)).registers == [700, 400]
        assert (await client.read_input_registers(4, count=2, device_id=1)).registers == [before[0], before[1] + 1]
        assert not (await client.write_coils(0, [True, False, True], device_id=1)).isError()
        assert (await client.read_coils(0, count=3, device_id=1)).bits[:3] == [True, False, True]
        assert (await client.write_registers(0, [2000], device_id=1)).exception_code == 3
        assert (await client.read_input_registers(12, count=1, device_id=1)).exception_code == 2
        client.close()
