"""The settings of an OPC UA server, as types. Pure.

    {"kind": "opcua", "url": "opc.tcp://10.0.0.8:4840", "period_ms": 100, "timeout_ms": 2000, "write": true,
     "security": {"policy": "Basic256Sha256", "mode": "SignAndEncrypt", "certificate": "driver.der",
                  "private_key": "driver.pem", "server_certificate": "server.der"},
     "user": "plc", "password_file": "password",
     "inputs":  [{"variable": "Tank.level", "device": {"node": "ns=2;s=Level", "scale": 10}}],
     "outputs": [{"variable": "Tank.pump", "device": {"node": "nsu=urn:plant;s=Pump"}}]}

value = number of the server * scale + offset. Files are relative to the driver's settings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vplc.drivers import rows
from vplc.drivers.rows import Row, Types, Writing
from vplc.scan import values
from vplc.scan.configuration import Reader
from vplc.scan.values import Json

POLICIES = ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
MODES = ("Sign", "SignAndEncrypt")
_KEYS = (*rows.OUTPUTS, "url", "timeout_ms", "backoff_ms", "security", "user", "password_file")
_SECURITY = ("policy", "mode", "certificate", "private_key", "server_certificate")
_NODE = re.compile(r"(?:(?:ns=\d+|nsu=[^;]+);)?[isgb]=.+$")
_URL = re.compile(r"opc\.tcp://[^/\s]+")


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    kind: str
    node: str
    scale: float
    offset: float

    def value_in(self, value: object) -> Json:
        """The program's value of one of the server. ValueError when it does not fit the program's type."""
        if not isinstance(value, (bool, int, float)):
            raise ValueError(f"{value!r} is neither a number nor a truth value")
        if self.kind == "BOOL":
            return bool(value)
        scaled = value * self.scale + self.offset if self.scale != 1.0 or self.offset != 0.0 else value
        if self.kind not in ("REAL", "LREAL", ""):
            if not math.isfinite(scaled):
                raise ValueError(f"{scaled} does not fit {self.kind}")
            scaled = round(scaled)
        if self.kind:
            values.encode(self.kind, int(scaled) if isinstance(scaled, bool) else scaled)
        return scaled

    def value_out(self, value: Json) -> bool | int | float:
        if not isinstance(value, (bool, int, float)):
            raise ValueError(f"{value!r} is no number")
        if isinstance(value, bool) or (self.scale == 1.0 and self.offset == 0.0):
            return value
        return (value - self.offset) / self.scale


@dataclass(frozen=True, slots=True)
class Security:
    policy: str
    mode: str
    certificate: str
    private_key: str
    server_certificate: str


@dataclass(frozen=True, slots=True)
class Settings:
    url: str
    period_s: float
    timeout_s: float
    backoff_s: tuple[float, float]
    security: Security | None
    user: str
    password_file: str
    writing: Writing
    inputs: tuple[Point, ...]
    outputs: tuple[Point, ...]
    safe: Mapping[str, Json]


def parse(reader: Reader, settings: dict[str, Any], inputs: Types, outputs: Types) -> Settings:
    reader.table(settings, "", _KEYS)
    url = reader.text(settings, "url", "")
    if not _URL.match(url):
        reader.add("url", f"must be like opc.tcp://HOST:4840, is {url!r}")
    backoff = reader.table(settings.get("backoff_ms", {}), "backoff_ms", ("first", "most"))
    first = reader.number(backoff, "first", "backoff_ms", 500, 10, 60_000) / 1000
    most = reader.number(backoff, "most", "backoff_ms", 10_000, 10, 600_000) / 1000
    user = reader.text(settings, "user", "")
    password_file = reader.text(settings, "password_file", "")
    if bool(user) != bool(password_file):
        reader.add("user", "user and password_file belong together")
    ins = [p for r in rows.rows(reader, settings, "inputs", inputs) for p in [_point(reader, r)] if p]
    out_rows = rows.rows(reader, settings, "outputs", outputs)
    outs = [p for r in out_rows for p in [_point(reader, r)] if p]
    nodes: dict[str, str] = {}
    for p in outs:
        if nodes.setdefault(p.node, p.name) != p.name:
            reader.add("outputs", f"{p.name} and {nodes[p.node]} both write {p.node}")
    if not ins and not outs and not reader.problems:
        reader.add("", "has no channels: give inputs or outputs")
    return Settings(
        url=url,
        period_s=rows.milliseconds(reader, settings, "period_ms", 100, 10, 60_000),
        timeout_s=rows.milliseconds(reader, settings, "timeout_ms", 2000, 50, 60_000),
        backoff_s=(first, max(first, most)),
        security=_security(reader, settings),
        user=user,
        password_file=password_file,
        writing=rows.writing(reader, settings),
        inputs=tuple(ins),
        outputs=tuple(outs),
        safe={r.name: r.safe for r in out_rows},
    )


def _security(reader: Reader, settings: dict[str, Any]) -> Security | None:
    if "security" not in settings:
        return None
    table = reader.table(settings["security"], "security", _SECURITY)
    for key in ("certificate", "private_key", "server_certificate"):
        if not table.get(key):
            reader.add(f"security.{key}", "is missing: the name of a file")
    return Security(
        rows.choice(reader, table, "policy", "security", POLICIES, POLICIES[0]),
        rows.choice(reader, table, "mode", "security", MODES, MODES[1]),
        reader.text(table, "certificate", "security"),
        reader.text(table, "private_key", "security"),
        reader.text(table, "server_certificate", "security"),
    )


def _point(reader: Reader, row: Row) -> Point | None:
    path, device = f"{row.path}.device", dict(row.device)
    reader.table(device, path, ("node", "scale", "offset"))
    node = reader.text(device, "node", path)
    scale = reader.number(device, "scale", path, 1.0, -1e12, 1e12)
    offset = reader.number(device, "offset", path, 0.0, -1e15, 1e15)
    if not _NODE.match(node):
        reader.add(f"{path}.node", f"must be a node like ns=2;s=Level or nsu=URI;i=7, is {node!r}")
        return None
    if scale == 0:
        reader.add(f"{path}.scale", "must not be 0")
        return None
    if row.type == "BOOL" and (scale != 1.0 or offset != 0.0):
        reader.add(path, "a BOOL has neither scale nor offset")
    return Point(row.name, row.type, node, float(scale), float(offset))
