"""SERVER.json: where a server listens, who may do what, and which variables may be written. Checked whole, all mistakes
at once, into frozen types. Pure apart from `load`.

    {"bind": "192.168.10.5", "port": 4840, "writable": ["Main.setpoint", {"path": "Main.limit", "min": 0, "max": 80}],
     "policies": ["Basic256Sha256"], "certificates": "pki",
     "users": {"anna": {"role": "operator", "password": "$argon2id$..."}}}
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vplc.scan.configuration import Reader
from vplc.scan.errors import Problem, Refused
from vplc.servers.model import Model

ROLES = ("observer", "operator")
POLICIES = ("None", "Basic256Sha256", "Aes256Sha256RsaPss")
WORD_ORDERS = ("big", "little")
COMMON_KEYS = ("bind", "port", "writable")
OPCUA_KEYS = (
    *COMMON_KEYS, "name", "sampling_ms", "units", "anonymous", "policies", "users", "certificates", "sessions",
)  # fmt: skip
MODBUS_KEYS = (*COMMON_KEYS, "unit", "word_order", "map", "connections", "idle_timeout_s", "frame_timeout_s", "outputs")
MAP = {
    "discrete_inputs": {"inputs": 0},
    "coils": {"outputs": 0, "memory": 8192},
    "input_registers": {"inputs": 0},
    "holding_registers": {"outputs": 0, "memory": 1024},
}
_MOST_WRITABLE = 10_000


@dataclass(frozen=True, slots=True)
class Grant:
    """A variable that clients may write, within inclusive bounds if given."""

    path: str
    low: float | None = None
    high: float | None = None

    def refusal(self, value: object) -> str:
        """Why a value is not allowed; empty when it is."""
        for n in value if isinstance(value, list) else [value]:
            if isinstance(n, float) and not math.isfinite(n):
                return f"{n} is no number"
            if isinstance(n, (int, float)) and not isinstance(n, bool):
                if self.low is not None and n < self.low:
                    return f"{n} is below {self.low:g}"
                if self.high is not None and n > self.high:
                    return f"{n} is above {self.high:g}"
        return ""


Grants = Mapping[str, Grant]  # by path in capitals


@dataclass(frozen=True, slots=True)
class Unit:
    """Engineering unit (text as people write it) and the usual range of a variable."""

    unit: str
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class User:
    """Either an argon2 hash or a certificate proves who it is."""

    name: str
    role: str
    password: str = ""
    certificate: Path | None = None


@dataclass(frozen=True, slots=True)
class OpcUa:
    bind: str
    port: int
    name: str
    sampling_ms: int
    anonymous: bool
    policies: tuple[str, ...]
    certificates: Path
    sessions: int
    users: tuple[User, ...]
    grants: Grants
    units: Mapping[str, Unit]


@dataclass(frozen=True, slots=True)
class Modbus:
    """`tables` says at which address of a table an area of the program begins."""

    bind: str
    port: int
    unit: int | None
    word_order: str
    tables: Mapping[str, Mapping[str, int]]
    connections: int
    idle_timeout_s: float
    frame_timeout_s: float
    grants: Grants
    outputs: bool


def load(path: Path) -> object:
    """The document as read; raises Refused."""
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Refused([Problem(str(path), f"cannot read the configuration: {error.strerror}")]) from error
    except ValueError as error:
        raise Refused([Problem(str(path), f"the configuration is no JSON: {error}")]) from error


def opcua(data: object, where: str, folder: Path, name: str) -> OpcUa:
    """Relative paths start at `folder`; `name` is the usual name. Raises Refused with every mistake."""
    reader = Reader(where)
    top = reader.table(data, "", OPCUA_KEYS)
    policies = _choices(reader, top, "policies", POLICIES, ["Basic256Sha256", "Aes256Sha256RsaPss"])
    users = _users(reader, top, folder)
    anonymous = _flag(reader, top, "anonymous", True)
    if not anonymous and not users:
        reader.add("users", "nobody could log in: anonymous is off and there are no users")
    if "None" in policies and any(u.role == "operator" for u in users) and len(policies) == 1:
        reader.add("policies", "passwords of operators would travel unencrypted", 'add "Basic256Sha256"')
    out = OpcUa(
        bind=_bind(reader, top),
        port=int(_whole(reader, top, "port", 4840, 0, 65535)),
        name=reader.text(top, "name", "", name) or name,
        sampling_ms=int(_whole(reader, top, "sampling_ms", 100, 10, 60_000)),
        anonymous=anonymous,
        policies=tuple(policies),
        certificates=folder / reader.text(top, "certificates", "", "pki"),
        sessions=int(_whole(reader, top, "sessions", 20, 1, 1000)),
        users=tuple(users),
        grants=_grants(reader, top),
        units=_units(reader, top),
    )
    if reader.problems:
        raise Refused(reader.problems)
    return out


def modbus(data: object, where: str) -> Modbus:
    """Raises Refused with every mistake."""
    reader = Reader(where)
    top = reader.table(data, "", MODBUS_KEYS)
    unit = top.get("unit")
    if unit is not None and (isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit <= 255):
        reader.add("unit", f"must be a unit identifier from 0 to 255, or null for any, is {unit!r}")
    order = reader.text(top, "word_order", "", "big")
    if order not in WORD_ORDERS:
        reader.add("word_order", f"must be one of {', '.join(WORD_ORDERS)}, is {order!r}")
    out = Modbus(
        bind=_bind(reader, top),
        port=int(_whole(reader, top, "port", 502, 0, 65535)),
        unit=unit,
        word_order=order,
        tables=_tables(reader, top),
        connections=int(_whole(reader, top, "connections", 16, 1, 1000)),
        idle_timeout_s=reader.number(top, "idle_timeout_s", "", 60, 0.1, 86_400),
        frame_timeout_s=reader.number(top, "frame_timeout_s", "", 5, 0.1, 60),
        grants=_grants(reader, top),
        outputs=_flag(reader, top, "outputs", False),
    )
    if reader.problems:
        raise Refused(reader.problems)
    return out


def grant_problems(grants: Grants, model: Model, where: str) -> list[Problem]:
    """What is wrong with the writable variables in the program that runs."""
    out = []
    for key, grant in grants.items():
        place = f"{where} writable"
        variable = model.known.one(grant.path)
        if variable is None:
            parts = model.known.find(grant.path)
            if parts:
                out.append(Problem(place, f"{grant.path} has parts", f"name them one by one, such as {parts[0].path}"))
                continue
            close = difflib.get_close_matches(grant.path, [v.path for v in model.known.rows], 1)
            hint = f'did you mean "{close[0]}"?' if close else ""
            out.append(Problem(place, f"{grant.path}: there is no such variable", hint))
        elif key not in model.items:
            out.append(Problem(place, f"{grant.path} is an element of an array", "name the whole array"))
        elif variable.constant:
            out.append(Problem(place, f"{grant.path} is a CONSTANT"))
        else:
            fed = model.known.feeder(variable)
            if fed is not None:
                out.append(Problem(place, f"{grant.path} is written by driver {fed.driver} before each scan"))
    return out


def _bind(reader: Reader, top: Mapping[str, Any]) -> str:
    text = reader.text(dict(top), "bind", "", "127.0.0.1")
    try:
        ipaddress.ip_address(text)
    except ValueError:
        reader.add("bind", f"{text!r} is no IP address", "the address of the interface in the control zone")
    return text


def _whole(reader: Reader, top: dict[str, Any], key: str, default: int, low: int, high: int) -> float:
    value = reader.number(top, key, "", default, low, high)
    if value != int(value):
        reader.add(key, f"must be a whole number, is {value!r}")
    return value


def _flag(reader: Reader, top: Mapping[str, Any], key: str, default: bool) -> bool:
    value = top.get(key, default)
    if not isinstance(value, bool):
        reader.add(key, f"must be true or false, is {value!r}")
        return default
    return value


def _choices(reader: Reader, top: Mapping[str, Any], key: str, known: Sequence[str], default: list[str]) -> list[str]:
    value = top.get(key, default)
    if not isinstance(value, list) or not value:
        reader.add(key, f"must be a list with one or more of {', '.join(known)}")
        return default
    for one in value:
        if one not in known:
            close = difflib.get_close_matches(str(one), known, 1)
            reader.add(
                key, f"unknown: {one!r}", f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"
            )
    return [v for v in value if v in known]


def _grants(reader: Reader, top: Mapping[str, Any]) -> Grants:
    rows = top.get("writable", [])
    if not isinstance(rows, list) or len(rows) > _MOST_WRITABLE:
        reader.add("writable", f"must be a list of at most {_MOST_WRITABLE} variables")
        return {}
    out: dict[str, Grant] = {}
    for i, row in enumerate(rows):
        where = f"writable[{i}]"
        table = {"path": row} if isinstance(row, str) else reader.table(row, where, ("path", "min", "max"))
        path = reader.text(table, "path", where)
        if not path:
            reader.add(where, "needs the path of a variable")
            continue
        low, high = _bounds(reader, table, where)
        if path.upper() in out:
            reader.add(where, f"{path} is given twice")
        out[path.upper()] = Grant(path, low, high)
    return out


def _bounds(reader: Reader, table: Mapping[str, Any], where: str) -> tuple[float | None, float | None]:
    found: list[float | None] = []
    for key in ("min", "max"):
        value = table.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            reader.add(f"{where}.{key}", f"must be a number, is {value!r}")
            value = None
        found.append(value)
    low, high = found
    if low is not None and high is not None and low > high:
        reader.add(where, f"min {low:g} is above max {high:g}")
    return low, high


def _units(reader: Reader, top: dict[str, Any]) -> dict[str, Unit]:
    out = {}
    for path, row in reader.table(top.get("units", {}), "units").items():
        where = f"units.{path}"
        table = reader.table(row, where, ("unit", "min", "max"))
        low, high = _bounds(reader, table, where)
        if (low is None) != (high is None):
            reader.add(where, "needs both min and max, or none of them")
        out[path.upper()] = Unit(reader.text(table, "unit", where), low, high)
    return out


def _users(reader: Reader, top: dict[str, Any], folder: Path) -> list[User]:
    out = []
    for name, row in reader.table(top.get("users", {}), "users").items():
        where = f"users.{name}"
        table = reader.table(row, where, ("role", "password", "certificate"))
        role = reader.text(table, "role", where, "observer")
        if role not in ROLES:
            reader.add(f"{where}.role", f"must be one of {', '.join(ROLES)}, is {role!r}")
        password = reader.text(table, "password", where)
        certificate = reader.text(table, "certificate", where)
        if bool(password) == bool(certificate):
            reader.add(where, 'needs either "password" or "certificate"', "python -m vplc.servers password makes one")
        if password and not password.startswith("$argon2"):
            reader.add(f"{where}.password", "must be an argon2 hash", "python -m vplc.servers password makes one")
        if certificate and not (folder / certificate).is_file():
            reader.add(f"{where}.certificate", f"there is no file {certificate}")
        out.append(User(name, role, password, folder / certificate if certificate else None))
    return out


def _tables(reader: Reader, top: dict[str, Any]) -> dict[str, dict[str, int]]:
    given = reader.table(top.get("map", {}), "map", MAP)
    out: dict[str, dict[str, int]] = {}
    for table, usual in MAP.items():
        row = reader.table(given.get(table, usual), f"map.{table}", usual)
        out[table] = {}
        for area, begin in {**usual, **row}.items():
            if begin is None or area not in usual:
                continue  # null: not served
            if isinstance(begin, bool) or not isinstance(begin, int) or not 0 <= begin <= 65535:
                reader.add(f"map.{table}.{area}", f"must be an address from 0 to 65535 or null, is {begin!r}")
                continue
            out[table][area] = begin
        if len(set(out[table].values())) < len(out[table]):
            reader.add(f"map.{table}", "two areas begin at the same address")
    return out
