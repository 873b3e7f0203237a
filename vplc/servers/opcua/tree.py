"""The nodes of a running program, made when a client asks for them and forgotten afterwards.

A program of 10,000 variables would take 60 MB and many seconds as ready-made nodes; as a model it takes a few. The
identifiers are texts: the path of a variable (`Main.level`), a property of it (`Main.level|EURange`), a type
(`type:Recipe`), a member of it (`type:Recipe|speed`), and `@...` for what stands around programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from asyncua import ua
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.ua.attribute_ids import AttributeIds

from vplc.servers.configuration import OpcUa, Unit
from vplc.servers.model import Array, Block, Enumeration, Item, Model, Named, Structure, Subrange, Type
from vplc.servers.opcua.companion import C, O, Spaces, standard
from vplc.servers.opcua.node import Head, attribute, make, unnamed
from vplc.servers.opcua.shapes import DataType, Shapes
from vplc.servers.opcua.values import KINDS

V = ua.VariantType
Reader = Callable[[str], ua.DataValue]  # the value that an identifier has now
_SECTIONS = {"input": 4001, "output": 4002, "inout": 4003, "local": 4004, "external": 4005}
_NUMERIC = frozenset(
    {"SINT", "USINT", "INT", "UINT", "DINT", "UDINT", "LINT", "ULINT", "REAL", "LREAL"}
)  # AnalogItemType is for numbers
STATUS = {
    "Running": V.Boolean, "State": V.String, "Reason": V.String, "ProgramVersion": V.UInt32, "SourceDigest": V.String,
}  # fmt: skip
_DEVICE = {  # what OPC 10000-100 wants of a device; -1 says the revision is not counted
    "Manufacturer": ("Sluice", V.LocalizedText), "Model": ("Virtual PLC", V.LocalizedText),
    "HardwareRevision": ("", V.String), "SoftwareRevision": ("", V.String), "DeviceRevision": ("", V.String),
    "DeviceManual": ("", V.String), "SerialNumber": ("", V.String), "RevisionCounter": (-1, V.Int32),
}  # fmt: skip
_UNECE = "http://www.opcfoundation.org/UA/units/un/cefact"
# UNECE Recommendation 20 common codes; units without one travel as text only.
UNECE_CODES = {
    "mm": "MMT", "cm": "CMT", "m": "MTR", "mm/s": "C16", "m/s": "MTS", "m/s²": "MSK", "kN": "B47", "N": "NEW",
    "bar": "BAR", "mbar": "MBR", "Pa": "PAL", "kPa": "KPA", "°C": "CEL", "K": "KEL", "l/min": "L2", "m³/h": "MQH",
    "l": "LTR", "m³": "MTQ", "rpm": "RPM", "1/min": "RPM", "A": "AMP", "V": "VLT", "W": "WTT", "kW": "KWT",
    "kWh": "KWH", "%": "P1", "Hz": "HTZ", "s": "SEC", "ms": "C26", "min": "MIN", "h": "HUR", "kg": "KGM", "t": "TNE",
    "kg/h": "E93", "°": "DD",
}  # fmt: skip


class Tree:
    """Of one version of a program. `read` answers for values."""

    def __init__(self, model: Model, spaces: Spaces, settings: OpcUa, read: Reader, shapes: Shapes) -> None:
        self.model, self.spaces, self._settings, self._read = model, spaces, settings, read
        self.shapes = shapes
        self._fixed: dict[str, tuple[Head, dict[str, ua.DataValue], list[tuple[int, str]]]] = {}
        self._parents: dict[str, tuple[int, str]] = {}
        self._sections = {name: spaces.plc_id(number) for name, number in _SECTIONS.items()}
        self._lay_out()

    # -- what leads here -------------------------------------------------------------------------------

    def attach(self, nodes: MutableMapping[ua.NodeId, NodeData]) -> None:
        """Makes the fixed nodes point to the program's, instead of to those of the version before."""
        leads: dict[ua.NodeId, list[ua.ReferenceDescription]] = {
            self.spaces.di_id(5001): [self._head("@configuration").reference(standard(O.HasComponent))],
            standard(O.Structure): [], standard(O.Enumeration): [],
            self.spaces.plc_id(1004): [], self.spaces.plc_id(1005): [],
        }  # fmt: skip
        for t in self.model.types:
            above = self._above(t.number)
            if above is not None and above in leads:
                leads[above].append(self._type_head(t.number).reference(standard(O.HasSubtype)))
        for where, references in leads.items():
            node = nodes[where]
            kept = [r for r in node.references if not (r.IsForward and r.NodeId.NamespaceIndex == self.spaces.own)]
            node.references[:] = [*kept, *references]

    def node(self, identifier: str) -> NodeData | None:
        """None when this version has no such node."""
        if identifier.startswith("@"):
            return self._standing(identifier)
        if identifier.startswith("type:"):
            return self._type_node(identifier)
        path, bar, name = identifier.rpartition("|")
        item = self.model.item(path if bar else identifier)
        if item is None or item.path != (path if bar else identifier):
            return None
        if not bar:
            return self._item_node(item)
        for prop, kind, value in self._properties(item):
            if prop == name:
                return self._property(identifier, prop, kind, value, self.item_head(item))
        return None

    def value(self, identifier: str) -> ua.DataValue | None:
        """The value of a variable of the program; None for everything else."""
        item = self.model.item(identifier)
        if item is None or item.path != identifier or not self.shapes.is_variable(item):
            return None
        return self._read(identifier)

    # -- programs and variables ------------------------------------------------------------------------

    def item_head(self, item: Item) -> Head:
        identifier = self.shapes.own(item.path)
        name = ua.QualifiedName(item.name, self.spaces.own)
        if self.shapes.is_variable(item):
            analog = item.path.upper() in self._settings.units and self.shapes.base(item.type) in _NUMERIC
            kind = O.AnalogItemType if analog else O.BaseDataVariableType
            return Head(identifier, name, C.Variable, standard(kind))
        found = self.model.definition(item.type)
        kind_id = self.shapes.type_id(found.number) if isinstance(found, Block) else standard(O.BaseObjectType)
        return Head(identifier, name, C.Object, kind_id)

    def _kind(self, parent: Item | None, item: Item) -> ua.NodeId:
        """The reference from an owner to its part."""
        if parent is not None and isinstance(self.model.definition(parent.type), Block):
            return self.spaces.plc_id(_SECTIONS[item.section])
        return standard(O.HasComponent)

    def _item_node(self, item: Item) -> NodeData:
        head = self.item_head(item)
        attributes: dict[str, ua.DataValue] = {}
        if head.node_class == C.Variable:
            attributes = self._variable(item)
        made = make(head, attributes)
        if head.node_class == C.Variable:
            value = made.attributes[AttributeIds.Value]
            path = item.path
            value.value = None
            value.value_callback = lambda _id, _attribute: self._read(path)
        references = made.references
        if item.parent is not None:
            references.append(self.item_head(item.parent).reference(self._kind(item.parent, item), forward=False))
        else:
            owner = "@programs" if item.section == "program" else "@globals"
            references.append(self._head(owner).reference(standard(O.HasComponent), forward=False))
        sections = self._sections if isinstance(self.model.definition(item.type), Block) else {}
        plain = standard(O.HasComponent)
        references.extend(self.item_head(p).reference(sections.get(p.section, plain)) for p in item.parts)
        for name in item.externals:
            shared = self.model.item(name)
            if shared is not None:
                references.append(self.item_head(shared).reference(self.spaces.plc_id(4005)))
        task = self.model.program_tasks.get(item.path) if item.section == "program" else None
        if task:
            references.append(self._head(f"@task:{task}").reference(self.spaces.plc_id(4006)))
        for name, _, _ in self._properties(item):
            references.append(self._property_head(f"{item.path}|{name}", name).reference(standard(O.HasProperty)))
        return made

    def _variable(self, item: Item) -> dict[str, ua.DataValue]:
        shown = self.shapes.data_type(item.type)
        assert shown is not None
        writable = item.variable is not None and item.path.upper() in self._settings.grants
        level = attribute(3 if writable else 1, V.Byte)
        return {
            **_typed(shown),
            "Value": ua.DataValue(),
            "AccessLevel": level,
            "UserAccessLevel": level,
            "MinimumSamplingInterval": attribute(float(self._settings.sampling_ms), V.Double),
        }

    def _properties(self, item: Item) -> Iterator[tuple[str, ua.VariantType, Any]]:
        """OPC 30000, 9.3 (what is declared), and OPC 10000-8 (units)."""
        v = item.variable
        if v is not None:
            if v.address:
                yield "AT", V.String, v.address
            if v.retain:
                yield "RETAIN", V.Boolean, True
            if v.constant:
                yield "CONSTANT", V.Boolean, True
        _, found = self.shapes.element(item.type)
        if isinstance(found, Subrange):
            kind = KINDS[found.base].variant
            yield "SubrangeMin", kind, found.low
            yield "SubrangeMax", kind, found.high
        if isinstance(item.type, Array):
            yield "Dimensions", V.UInt32, len(item.type.dims)
            yield "IndexMin", V.Int32, [low for low, _ in item.type.dims]
            yield "IndexMax", V.Int32, [high for _, high in item.type.dims]
        unit = self._settings.units.get(item.path.upper())
        if unit is not None and self.shapes.is_variable(item):
            if unit.low is not None and unit.high is not None:
                yield "EURange", V.ExtensionObject, ua.Range(unit.low, unit.high)
            if unit.unit:
                yield "EngineeringUnits", V.ExtensionObject, _unit(unit)

    def _property_head(self, identifier: str, name: str) -> Head:
        own = {"EURange", "EngineeringUnits", "EnumStrings", "EnumValues"}
        space = 0 if name in own else self.spaces.plc
        return Head(self.shapes.own(identifier), ua.QualifiedName(name, space), C.Variable, standard(O.PropertyType))

    def _property(self, identifier: str, name: str, kind: ua.VariantType, value: Any, owner: Head) -> NodeData:
        special = {"EURange": O.Range, "EngineeringUnits": O.EUInformation, "EnumValues": O.EnumValueType}
        data_type = standard(special.get(name, kind.value))
        rank = 1 if isinstance(value, list) else -1
        attributes = {
            "DataType": attribute(data_type, V.NodeId),
            "Value": attribute(value, kind),
            "ValueRank": attribute(rank, V.Int32),
        }
        made = make(self._property_head(identifier, name), attributes)
        made.references.append(owner.reference(standard(O.HasProperty), forward=False))
        return made

    # -- types -----------------------------------------------------------------------------------------

    def _above(self, number: int) -> ua.NodeId | None:
        """The type that a type of the program derives from; None for those that get no node."""
        t = self.model.types[number]
        if isinstance(t, Structure):
            return standard(O.Structure) if self.model.is_structure(Named(number)) else None
        if isinstance(t, Enumeration):
            return standard(O.Enumeration)
        if isinstance(t, Block):
            if t.base is not None:
                return self.shapes.type_id(t.base)
            return self.spaces.plc_id(1004 if t.pou == "PROGRAM" else 1005)
        return None

    def _type_head(self, number: int) -> Head:
        t = self.model.types[number]
        node_class = C.ObjectType if isinstance(t, Block) else C.DataType
        return Head(self.shapes.type_id(number), ua.QualifiedName(t.name, self.spaces.own), node_class)

    def _type_node(self, identifier: str) -> NodeData | None:
        name, bar, part = identifier.removeprefix("type:").partition("|")
        number = self.shapes.numbers.get(name)
        if number is None:
            return None
        above = self._above(number)
        if above is None:
            return None
        t = self.model.types[number]
        head = self._type_head(number)
        if bar:
            return self._type_part(number, head, part)
        attributes = {"IsAbstract": attribute(False, V.Boolean)}
        references: list[ua.ReferenceDescription] = [
            unnamed(above, head.node_class).reference(standard(O.HasSubtype), False)
        ]
        if isinstance(t, Block):
            for member, kind, section in t.members:
                found = self._member_head(number, member, kind)
                if found is not None:
                    references.append(found.reference(self.spaces.plc_id(_SECTIONS[section])))
            heirs = [h for h in self.model.types if isinstance(h, Block) and h.base == number]
            references.extend(self._type_head(h.number).reference(standard(O.HasSubtype)) for h in heirs)
        elif isinstance(t, Structure):
            attributes["DataTypeDefinition"] = attribute(self._definition(number, t), V.ExtensionObject)
            references.append(self._encoding_head(number).reference(standard(O.HasEncoding)))
        elif isinstance(t, Enumeration):
            fields = [ua.EnumField(Value=v, DisplayName=ua.LocalizedText(n), Name=n) for n, v in t.values]
            attributes["DataTypeDefinition"] = attribute(ua.EnumDefinition(fields), V.ExtensionObject)
            what = _enum_property(t)[0]
            prop = self._property_head(f"{identifier}|{what}", what)
            references.append(prop.reference(standard(O.HasProperty)))
        made = make(head, attributes)
        made.references.extend(references)
        return made

    def _type_part(self, number: int, head: Head, part: str) -> NodeData | None:
        t = self.model.types[number]
        if isinstance(t, Enumeration):
            what, kind, value = _enum_property(t)
            return (
                self._property(str(self.shapes.type_id(number, what).Identifier), what, kind, value, head)
                if part == what
                else None
            )
        if isinstance(t, Structure):
            if part != "binary":
                return None
            made = make(self._encoding_head(number), {})
            made.references.append(head.reference(standard(O.HasEncoding), forward=False))
            return made
        for member, kind_, section in t.members if isinstance(t, Block) else ():
            found = self._member_head(number, member, kind_) if member == part else None
            if found is None:
                continue
            shown = self.shapes.data_type(kind_)
            attributes = {**_typed(shown), "Value": ua.DataValue(ua.Variant(None, V.Null))} if shown else {}
            made = make(found, attributes)
            made.references.append(head.reference(self.spaces.plc_id(_SECTIONS[section]), forward=False))
            rule = O.ModellingRule_Optional if section in ("inout", "external") else O.ModellingRule_Mandatory
            text = ua.QualifiedName("Optional" if rule == O.ModellingRule_Optional else "Mandatory", 0)
            made.references.append(Head(standard(rule), text, C.Object).reference(standard(O.HasModellingRule)))
            return made
        return None

    def _member_head(self, number: int, member: str, t: Type) -> Head | None:
        identifier = self.shapes.type_id(number, member)
        name = ua.QualifiedName(member, self.spaces.own)
        if self.shapes.data_type(t) is not None:
            return Head(identifier, name, C.Variable, standard(O.BaseDataVariableType))
        found = self.model.definition(t)
        if isinstance(found, Block):
            return Head(identifier, name, C.Object, self.shapes.type_id(found.number))
        if isinstance(found, Structure) or isinstance(t, Array):
            return Head(identifier, name, C.Object, standard(O.BaseObjectType))
        return None

    def _encoding_head(self, number: int) -> Head:
        name = ua.QualifiedName("Default Binary", 0)
        return Head(self.shapes.type_id(number, "binary"), name, C.Object, standard(O.DataTypeEncodingType))

    def _definition(self, number: int, t: Structure) -> ua.StructureDefinition:
        fields = [
            ua.StructureField(
                Name=name, DataType=shown.id, ValueRank=shown.rank, ArrayDimensions=list(shown.dims), IsOptional=False
            )
            for name, shown in self.shapes.fields(t)
        ]
        return ua.StructureDefinition(
            DefaultEncodingId=self.shapes.type_id(number, "binary"),
            BaseDataType=standard(O.Structure),
            StructureType=ua.StructureType.Structure,
            Fields=fields,
        )

    # -- what stands around programs -------------------------------------------------------------------

    def _lay_out(self) -> None:
        model, plc, di = self.model, self.spaces.plc_id, self.spaces.di_id
        part, prop = O.HasComponent, O.HasProperty

        def name(text: str, index: int) -> ua.QualifiedName:
            return ua.QualifiedName(text, index)

        def put(identifier: str, head: Head, attributes: dict[str, ua.DataValue], parent: str, kind: int) -> None:
            self._fixed[identifier] = (head, attributes, [])
            if parent:
                self._fixed[parent][2].append((kind, identifier))
                self._parents[identifier] = (kind, parent)

        def thing(identifier: str, text: str, index: int, kind: ua.NodeId, parent: str) -> None:
            put(identifier, Head(self.shapes.own(identifier), name(text, index), C.Object, kind), {}, parent, part)

        def fact(identifier: str, text: str, index: int, kind: ua.VariantType, value: Any, parent: str) -> None:
            head = Head(self.shapes.own(identifier), name(text, index), C.Variable, standard(O.PropertyType))
            attributes = {"DataType": attribute(standard(kind.value), V.NodeId), "Value": attribute(value, kind)}
            put(identifier, head, attributes, parent, prop)

        own = self.spaces.own
        thing("@configuration", model.configuration, own, plc(1001), "")
        thing("@resources", "Resources", self.spaces.plc, di(1004), "@configuration")
        thing("@globals", "GlobalVars", self.spaces.plc, di(1005), "@configuration")
        thing("@resource", model.resource, own, plc(1002), "@resources")
        for owner in ("@configuration", "@resource"):
            for text, (value, kind) in _DEVICE.items():
                known = model.source_sha256[:16] if text == "SoftwareRevision" else value
                shown = ua.LocalizedText(str(known)) if kind == V.LocalizedText else known
                fact(f"{owner}.{text}", text, self.spaces.di, kind, shown, owner)
        thing("@tasks", "Tasks", self.spaces.plc, di(1004), "@resource")
        thing("@programs", "Programs", self.spaces.plc, di(1004), "@resource")
        thing("@status", "Status", self.spaces.plc, di(1005), "@resource")
        for task in model.tasks:
            where = f"@task:{task.name}"
            thing(where, task.name, own, plc(1006), "@tasks")
            fact(f"{where}.Priority", "Priority", self.spaces.plc, V.UInt32, max(task.priority, 0), where)
            if task.interval_ns:
                text = f"T#{task.interval_ns / 1e6:g}ms"
                fact(f"{where}.Interval", "Interval", self.spaces.plc, V.String, text, where)
            if task.single:
                fact(f"{where}.Single", "Single", self.spaces.plc, V.String, task.single, where)
        for text, kind in STATUS.items():
            where = f"@status.{text}"
            head = Head(self.shapes.own(where), name(text, own), C.Variable, standard(O.BaseDataVariableType))
            attributes = {"DataType": attribute(standard(kind.value), V.NodeId), "Value": ua.DataValue()}
            put(where, head, attributes, "@status", part)

    def _head(self, identifier: str) -> Head:
        return self._fixed[identifier][0]

    def _standing(self, identifier: str) -> NodeData | None:
        found = self._fixed.get(identifier)
        if found is None:
            return None
        head, attributes, parts = found
        made = make(head, attributes)
        if identifier.startswith("@status."):
            made.attributes[AttributeIds.Value] = value = AttributeValue(ua.DataValue())
            value.value_callback = lambda _id, _attribute: self._read(identifier)
        up = self._parents.get(identifier)
        if up is not None:
            made.references.append(self._head(up[1]).reference(standard(up[0]), forward=False))
        else:
            set_head = Head(self.spaces.di_id(5001), ua.QualifiedName("DeviceSet", self.spaces.di), C.Object)
            made.references.append(set_head.reference(standard(O.HasComponent), forward=False))
        made.references.extend(self._head(one).reference(standard(kind)) for kind, one in parts)
        shown = {"@programs": self.model.programs, "@globals": self.model.globals}.get(identifier, ())
        made.references.extend(self.item_head(item).reference(standard(O.HasComponent)) for item in shown)
        for program, task in self.model.program_tasks.items():
            item = self.model.item(program) if identifier == f"@task:{task}" else None
            if item is not None:
                made.references.append(self.item_head(item).reference(self.spaces.plc_id(4006), forward=False))
        return made


def _typed(shown: DataType) -> dict[str, ua.DataValue]:
    out = {"DataType": attribute(shown.id, V.NodeId), "ValueRank": attribute(shown.rank, V.Int32)}
    if shown.dims:
        out["ArrayDimensions"] = attribute(list(shown.dims), V.UInt32)
    return out


def _enum_property(t: Enumeration) -> tuple[str, ua.VariantType, list[Any]]:
    """EnumStrings when the values count from 0 without gaps, else EnumValues (OPC 10000-3, 8.13)."""
    if [v for _, v in t.values] == list(range(len(t.values))):
        return "EnumStrings", V.LocalizedText, [ua.LocalizedText(n) for n, _ in t.values]
    rows = [ua.EnumValueType(Value=v, DisplayName=ua.LocalizedText(n)) for n, v in t.values]
    return "EnumValues", V.ExtensionObject, rows


def _unit(unit: Unit) -> ua.EUInformation:
    """The number of a UNECE code is its characters as big-endian bytes (OPC 10000-8, 5.6.4.3)."""
    code = UNECE_CODES.get(unit.unit)
    text = ua.LocalizedText(unit.unit)
    number = int.from_bytes(code.encode("ascii"), "big") if code else -1
    return ua.EUInformation(NamespaceUri=_UNECE if code else "", UnitId=number, DisplayName=text, Description=text)
