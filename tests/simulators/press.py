"""A press behind an OPC UA server: the machine of the demo's second plant.

Run as `python -m tests.simulators.press`. The behaviour is in `press_model`, the list of values in
`press_signals`; here is only the address space and the server. All values of one tick carry the same source
time stamp, the moment of the tick in whole milliseconds (UTC), and a value that did not change is not written
again. `Press/SampleCounter` goes up by exactly one every tick and is written last.

Node identifiers are strings: `ns=2;s=Press.Ram.Position` for `Objects/Press/Ram/Position`; the namespace is
`urn:sluice:simulators:press`. Clients may browse, read and subscribe; nothing can be written. Anonymous, without
security; with `--cert-dir` also Basic256Sha256 (Sign, and SignAndEncrypt) with a certificate made there, and
every client certificate accepted: this is a test machine.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
from datetime import UTC
from pathlib import Path

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds

from tests.simulators import process
from tests.simulators.certificates import offer_security
from tests.simulators.press_model import Phase, PressModel
from tests.simulators.press_signals import SIGNALS, Kind, Signal, Value, read_all

log = logging.getLogger("press")

NAMESPACE = "urn:sluice:simulators:press"
APPLICATION_URI = "urn:sluice:simulators:press:server"
# Nodes per request and items per call; the library's own figures, written out because clients rely on them.
MOST_PER_CALL = 10_000
UNECE = "http://www.opcfoundation.org/UA/units/un/cefact"
# UNECE Recommendation 20 common codes; units without one travel as text only.
UNECE_CODES = {
    "mm": "MMT", "mm/s": "C16", "m/s²": "MSK", "kN": "B47", "bar": "BAR", "°C": "CEL", "l/min": "L2", "rpm": "RPM",
    "A": "AMP", "kW": "KWT", "%": "P1", "N·m": "NU", "V": "VLT", "Hz": "HTZ", "kvar": "KVR", "kVA": "KVA",
    "Wh": "WHR", "ml/min": "41", "°": "DD", "s": "SEC",
}  # fmt: skip

_VARIANT: dict[Kind, ua.VariantType] = {
    "bool": ua.VariantType.Boolean, "uint16": ua.VariantType.UInt16, "int32": ua.VariantType.Int32,
    "uint32": ua.VariantType.UInt32, "int64": ua.VariantType.Int64, "float": ua.VariantType.Float,
    "double": ua.VariantType.Double, "string": ua.VariantType.String, "phase": ua.VariantType.Int32,
}  # fmt: skip


def node_id_text(path: str) -> str:
    """The identifier part of the OPC UA node of a signal path, or of `SampleCounter`."""
    return "Press." + path.replace("/", ".")


def _standard(number: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(number))


def unit_id(code: str) -> int:
    """A UNECE code as OPC UA's number: its characters as big-endian bytes (OPC 10000-8, 5.6.4.3)."""
    return int.from_bytes(code.encode("ascii"), "big")


class Press:
    """The address space, and the model that moves it."""

    def __init__(self, server: Server, model: PressModel, step_s: float) -> None:
        self._server = server
        self._model = model
        self._step_s = step_s
        self._counter = 0
        self._namespace = 0
        self._node_ids: list[ua.NodeId] = []
        self._variants = [_VARIANT[signal.kind] for signal in SIGNALS]
        self._last: list[Value | None] = [None] * len(SIGNALS)

    async def build(self) -> None:
        """Create `Objects/Press` with everything below it, and fill in the first values."""
        self._namespace = await self._server.register_namespace(NAMESPACE)
        phase_type = await self._add_phase_type()
        press = await self._server.nodes.objects.add_object(self._id("Press"), self._name("Press"))
        folders: dict[str, ua.NodeId] = {"": press.nodeid}
        for signal, value in zip(SIGNALS, read_all(self._model), strict=True):
            parent, _, name = signal.path.rpartition("/")
            await self._add_folders(folders, parent)
            data_type = phase_type if signal.kind == "phase" else _standard(_VARIANT[signal.kind].value)
            node_id = self._id(node_id_text(signal.path))
            variant = ua.Variant(value, _VARIANT[signal.kind])
            analogue = signal.low is not None
            await self._add_variable(folders[parent], node_id, name, variant, data_type, analogue=analogue)
            if analogue:
                await self._add_analogue_properties(node_id, signal)
            self._node_ids.append(node_id)
        self._counter_id = self._id(node_id_text("SampleCounter"))
        await self._add_variable(
            press.nodeid, self._counter_id, "SampleCounter", ua.Variant(0, ua.VariantType.UInt32),
            _standard(ua.VariantType.UInt32.value), analogue=False,
        )  # fmt: skip
        await self.tick()

    async def tick(self) -> None:
        """Move the press on by one period and publish what changed, the counter last."""
        self._model.step(self._step_s)
        now = ua.DateTime.now(UTC)
        # Whole milliseconds: every client can represent them, so time stamps compare equal everywhere.
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        for index, value in enumerate(read_all(self._model)):
            if value != self._last[index]:
                self._last[index] = value
                await self._publish(self._node_ids[index], ua.Variant(value, self._variants[index]), now)
        self._counter = (self._counter + 1) % 2**32
        await self._publish(self._counter_id, ua.Variant(self._counter, ua.VariantType.UInt32), now)

    async def _publish(self, node_id: ua.NodeId, variant: ua.Variant, now: ua.DateTime) -> None:
        await self._server.write_attribute_value(
            node_id, ua.DataValue(variant, SourceTimestamp=now, ServerTimestamp=now)
        )

    def _id(self, text: str) -> ua.NodeId:
        return ua.NodeId(ua.String(text), ua.Int16(self._namespace))

    def _name(self, text: str) -> ua.QualifiedName:
        return ua.QualifiedName(text, self._namespace)

    async def _add_phase_type(self) -> ua.NodeId:
        base = self._server.get_node(ObjectIds.Enumeration)
        data_type = await base.add_data_type(self._id("PressPhase"), self._name("PressPhase"))
        await data_type.add_property(
            self._id("PressPhase.EnumStrings"),
            ua.QualifiedName("EnumStrings", 0),
            [ua.LocalizedText(phase.name.capitalize()) for phase in Phase],
        )
        return data_type.nodeid

    async def _add_folders(self, folders: dict[str, ua.NodeId], path: str) -> None:
        parent = ""
        for name in path.split("/"):
            here = f"{parent}/{name}" if parent else name
            if here not in folders:
                node = self._server.get_node(folders[parent])
                added = await node.add_object(self._id(node_id_text(here)), self._name(name))
                folders[here] = added.nodeid
            parent = here

    async def _add_variable(
        self, parent: ua.NodeId, node_id: ua.NodeId, name: str, value: ua.Variant, data_type: ua.NodeId, *,
        analogue: bool,
    ) -> None:  # fmt: skip
        # Not `add_variable`: it cannot say AnalogItemType.
        item = ua.AddNodesItem()
        item.RequestedNewNodeId = node_id
        item.BrowseName = self._name(name)
        item.NodeClass = ua.NodeClass.Variable
        item.ParentNodeId = parent
        item.ReferenceTypeId = _standard(ObjectIds.HasComponent)
        kind = ObjectIds.AnalogItemType if analogue else ObjectIds.BaseDataVariableType
        item.TypeDefinition = _standard(kind)
        attributes = ua.VariableAttributes()
        attributes.DisplayName = attributes.Description = ua.LocalizedText(name)
        attributes.DataType = data_type
        attributes.Value = value
        attributes.ValueRank = ua.ValueRank.Scalar
        attributes.AccessLevel = attributes.UserAccessLevel = ua.AccessLevel.CurrentRead.mask
        item.NodeAttributes = attributes
        [result] = await self._server.iserver.isession.add_nodes([item])
        result.StatusCode.check()

    async def _add_analogue_properties(self, node_id: ua.NodeId, signal: Signal) -> None:
        node = self._server.get_node(node_id)
        assert signal.low is not None
        assert signal.high is not None
        code = UNECE_CODES.get(signal.unit)
        unit = ua.EUInformation(
            NamespaceUri=UNECE if code else NAMESPACE,
            UnitId=unit_id(code) if code else -1,
            DisplayName=ua.LocalizedText(signal.unit),
            Description=ua.LocalizedText(signal.unit),
        )
        text = node_id_text(signal.path)
        await node.add_property(
            self._id(f"{text}.EURange"), ua.QualifiedName("EURange", 0), ua.Range(float(signal.low), float(signal.high))
        )
        await node.add_property(self._id(f"{text}.EngineeringUnits"), ua.QualifiedName("EngineeringUnits", 0), unit)


async def serve(options: argparse.Namespace) -> None:
    """Run the press until SIGTERM."""
    stop = process.stop_event()
    server = Server()
    server.name = "Sluice simulated press"
    server.manufacturer_name = "Sluice"
    server.product_uri = NAMESPACE
    await server.init()
    await server.set_application_uri(APPLICATION_URI)
    server.iserver.max_monitored_item_queue_size = MOST_PER_CALL
    server.iserver.max_unacked_messages_per_subscription = MOST_PER_CALL
    port = options.port or _free_port(options.host)
    server.set_endpoint(f"opc.tcp://{options.host}:{port}")
    policies = [ua.SecurityPolicyType.NoSecurity]
    if options.cert_dir:
        await offer_security(server, options.cert_dir, "press", APPLICATION_URI)
        policies += [
            ua.SecurityPolicyType.Basic256Sha256_Sign,
            ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
        ]
    server.set_security_policy(policies)
    server.set_identity_tokens([ua.AnonymousIdentityToken])
    press = Press(server, PressModel(options.seed), options.period_ms * options.speed / 1000)
    await press.build()
    try:
        await server.start()
    except OSError as refused:
        raise SystemExit(
            f"press: cannot listen on {options.host}:{port} ({refused.strerror}); give another --host or --port."
        ) from refused
    # Importing the library and building its address space leave some 50 MB of holes behind.
    process.give_back_memory()
    process.say_ready("opc ua", f"{options.host}:{port}")
    await process.keep_time(press.tick, options.period_ms / 1000, stop)
    await server.stop()


def _free_port(host: str) -> int:
    # asyncua announces the port in its endpoints before it listens, so 0 cannot be handed to it.
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulators.press",
        description=f"A simulated press behind an OPC UA server with {len(SIGNALS)} changing values.",
        epilog="SIGTERM stops it.",
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=process.port_number, default=4840, help="0 takes any free port (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the noise (default: %(default)s)")
    parser.add_argument(
        "--speed", type=process.positive, default=1.0, help="simulated seconds per second (default: %(default)s)"
    )
    parser.add_argument(
        "--period-ms", type=process.positive_whole, default=500, metavar="MS", help="period of change (default: 500)"
    )
    parser.add_argument(
        "--cert-dir", type=Path, metavar="DIR", help="also offer Basic256Sha256; key and certificate are kept here"
    )
    process.add_log_option(parser)
    return parser


def main() -> None:
    """Parse, then serve."""
    options = arguments().parse_args()
    process.start_log(options.log_level)
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
