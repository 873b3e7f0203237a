"""How the things of a program look to OPC UA: which are objects and which variables, of which data type, and how the
bytes of a structure become its value. Pure.

A structure is one Variable with a structured data type, and its fields are Variables below it: a client that knows
`DataTypeDefinition` reads it whole and of one scan, any other reads the fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from asyncua import ua

from vplc.servers.memory import Span
from vplc.servers.model import (
    Array,
    Block,
    Definition,
    Elementary,
    Enumeration,
    Item,
    Model,
    Structure,
    Subrange,
    Type,
)
from vplc.servers.opcua.companion import Spaces, standard
from vplc.servers.opcua.values import KINDS, PLC, PLC_TYPES, Codec, codec

MAX_VALUE = 256 * 1024  # bytes of one value; larger arrays are read by element


@dataclass(frozen=True, slots=True)
class DataType:
    """`dims` are the lengths of an array's dimensions."""

    id: ua.NodeId
    dims: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        return len(self.dims) or -1


class Shapes:
    """Of one version of a program."""

    def __init__(self, model: Model, spaces: Spaces) -> None:
        self.model, self.spaces = model, spaces
        names: dict[str, int] = {}
        for t in model.types:
            names[t.name.upper()] = names.get(t.name.upper(), 0) + 1
        self._names = [t.name if names[t.name.upper()] == 1 else f"{t.name}#{t.number}" for t in model.types]
        self._variables: dict[Type, bool] = {}
        self.numbers = {name: i for i, name in enumerate(self._names)}

    def own(self, identifier: str) -> ua.NodeId:
        return ua.NodeId(ua.String(identifier), ua.Int16(self.spaces.own))

    def type_id(self, number: int, part: str = "") -> ua.NodeId:
        return self.own(f"type:{self._names[number]}" + (f"|{part}" if part else ""))

    # -- types ---------------------------------------------------------------------------------------

    def element(self, t: Type) -> tuple[Type, Definition | None]:
        """What an array is made of; other types are made of themselves."""
        while isinstance(t, Array):
            t = t.of
        return t, self.model.definition(t)

    def base(self, t: Type) -> str | None:
        """The elementary type below names and arrays."""
        plain, found = self.element(t)
        if isinstance(found, (Enumeration, Subrange)):
            return found.base
        return plain.name if isinstance(plain, Elementary) else None

    def data_type(self, t: Type) -> DataType | None:
        """None for what is an object, or cannot be told."""
        if isinstance(t, Array):
            if isinstance(t.of, Array):
                return None  # arrays of arrays are shown by their elements
            inner = self.data_type(t.of)
            return None if inner is None else DataType(inner.id, tuple(high - low + 1 for low, high in t.dims))
        found = self.model.definition(t)
        if isinstance(found, Structure):
            return DataType(self.type_id(found.number)) if self.model.is_structure(t) else None
        if isinstance(found, Block):
            return None
        if isinstance(found, Enumeration) and found.base not in ("UDINT", "LINT", "ULINT"):
            return DataType(self.type_id(found.number))
        base = self.base(t)
        if base is None:
            return None
        if base.startswith("STRING"):
            return DataType(self.spaces.plc_id(PLC_TYPES["STRING"][0]))
        if base.startswith("WSTRING"):
            return DataType(standard(12))
        kind = KINDS.get(base)
        if kind is None:
            return None
        return DataType(self.spaces.plc_id(kind.data_type) if kind.namespace == PLC else standard(kind.data_type))

    def fields(self, found: Structure) -> Iterator[tuple[str, DataType]]:
        """The fields that a structure's value carries, in order."""
        for name, t in found.fields:
            shown = self.data_type(t)
            if shown is not None:
                yield name, shown

    # -- values --------------------------------------------------------------------------------------

    def is_variable(self, item: Item) -> bool:
        known = self._variables.get(item.type)
        if known is None:
            known = self._variables[item.type] = self.data_type(item.type) is not None
        return known

    def codec(self, item: Item) -> Codec | None:
        if item.variable is None:
            return None
        _, found = self.element(item.type)
        named = found.base if isinstance(found, (Enumeration, Subrange)) else None
        return codec(item.variable, named, isinstance(found, Enumeration))

    def span(self, item: Item) -> Span | None:
        """The bytes that hold the value; None for objects and for values that are too large."""
        if item.variable is not None:
            return (item.variable.offset, item.variable.size) if item.variable.size <= MAX_VALUE else None
        if not self.is_variable(item):
            return None
        begin, end = 1 << 62, 0
        for leaf in item.leaves():
            assert leaf.variable is not None
            begin, end = min(begin, leaf.variable.offset), max(end, leaf.variable.offset + leaf.variable.size)
        return (begin, end - begin) if 0 < end - begin <= MAX_VALUE else None

    def variant(self, item: Item, span: Span, data: bytes) -> ua.Variant:
        """The value of a Variable out of the bytes of its span."""
        found = self.codec(item)
        if found is not None:
            return found.variant(data)
        if isinstance(item.type, Array):
            rows = [self._object(part, span[0], data) for part in item.parts]
            dims = [ua.Int32(high - low + 1) for low, high in item.type.dims]
            shape = dims if len(dims) > 1 else None
            return ua.Variant(rows, ua.VariantType.ExtensionObject, Dimensions=shape, is_array=True)
        return ua.Variant(self._object(item, span[0], data), ua.VariantType.ExtensionObject)

    def _object(self, item: Item, begin: int, data: bytes) -> ua.ExtensionObject:
        found = self.model.definition(item.type)
        assert isinstance(found, Structure)
        return ua.ExtensionObject(self.type_id(found.number, "binary"), ua.ByteString(self._body(item, begin, data)))

    def _body(self, item: Item, begin: int, data: bytes) -> bytes:
        """A structure as it travels: field after field (OPC 10000-6, 5.2.6)."""
        out = []
        for part in item.parts:
            if not self.is_variable(part):
                continue
            found = self.codec(part)
            if found is not None and part.variable is not None:
                at = part.variable.offset - begin
                out.append(found.wire(data[at : at + part.variable.size]))
            elif isinstance(part.type, Array):
                dims = [high - low + 1 for low, high in part.type.dims]
                head = dims if len(dims) == 1 else [len(dims), *dims]
                out.append(struct.pack(f"<{len(head)}i", *head))
                out.extend(self._body(row, begin, data) for row in part.parts)
            else:
                out.append(self._body(part, begin, data))
        return b"".join(out)
