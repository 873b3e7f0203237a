"""An OPC UA server as a process: `python -m tests.integration.vplc_drivers.machine_server PORT [CERTIFICATES]`.

Objects/Machine holds Level (Int32), Temperature (Float), Switch (Boolean), and Speed (Int16), Echo (Double) and Lamp
(Boolean), which clients may write; Locked (Int16) they may not. "Level 5" on standard input sets a variable, "? Speed"
prints one, "bad Level" makes it bad. With a folder: Basic256Sha256, SignAndEncrypt only, server.der and server.pem.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from asyncua import ua
from asyncua.server.server import Server

T = ua.VariantType
VARIABLES = {
    "Level": (0, T.Int32, False), "Temperature": (0.0, T.Float, False), "Switch": (False, T.Boolean, False),
    "Speed": (0, T.Int16, True), "Echo": (0.0, T.Double, True), "Lamp": (False, T.Boolean, True),
    "Locked": (0, T.Int16, False),
}  # fmt: skip
URI = "urn:test:machine"


async def main(port: int, certificates: Path | None) -> None:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    await server.set_application_uri("urn:test:server")
    if certificates is None:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    else:
        server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
        await server.load_certificate(str(certificates / "server.der"))
        await server.load_private_key(str(certificates / "server.pem"))
    space = await server.register_namespace(URI)
    machine = await server.nodes.objects.add_object(space, "Machine")
    nodes = {}
    for name, (value, kind, writable) in VARIABLES.items():
        node = await machine.add_variable(ua.NodeId(name, space), name, value, kind)
        if writable:
            await node.set_writable()
        nodes[name] = node
    async with server:
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            first, _, rest = line.strip().partition(" ")
            if first == "?":
                print(await nodes[rest].read_value(), flush=True)
                continue
            if first == "bad":
                broken = ua.StatusCode(ua.StatusCodes.BadSensorFailure)
                await nodes[rest].write_value(ua.DataValue(ua.Variant(0, VARIABLES[rest][1]), StatusCode=broken))
            else:
                kind = VARIABLES[first][1]
                value = rest == "True" if kind is T.Boolean else float(rest) if kind is T.Float else int(rest)
                await nodes[first].write_value(value, kind)
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
