"""The fixed nodes: what of OPC UA for Devices (OPC 10000-100) and of OPC 30000 1.02 the server uses, under the numbers
those models give them. Written out here because only this part is served; `IsNamespaceSubset` says so to clients.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

from asyncua import ua
from asyncua.server.address_space import NodeData
from asyncua.ua.object_ids import ObjectIds

from vplc.servers.opcua.node import Head, attribute, link, make, name_targets
from vplc.servers.opcua.values import PLC_TYPES

DI_URI = "http://opcfoundation.org/UA/DI/"
PLC_URI = "http://PLCopen.org/OpcUa/IEC61131-3/"
C = ua.NodeClass
O = ObjectIds  # noqa: E741 - as short as the numbers it stands for


@dataclass(frozen=True, slots=True)
class Spaces:
    """Indices of the namespaces."""

    di: int
    plc: int
    own: int

    def plc_id(self, number: int) -> ua.NodeId:
        return ua.NodeId(ua.Int32(number), ua.Int16(self.plc))

    def di_id(self, number: int) -> ua.NodeId:
        return ua.NodeId(ua.Int32(number), ua.Int16(self.di))


def standard(number: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(number))


_DI_TYPES = (  # number, name, parent, whether the parent is a standard node, abstract
    (1001, "TopologyElementType", O.BaseObjectType, True, True),
    (1002, "DeviceType", 1001, False, True),
    (1003, "BlockType", 1001, False, True),
    (1004, "ConfigurableObjectType", O.BaseObjectType, True, False),
    (1005, "FunctionalGroupType", O.FolderType, True, False),
)
_PLC_TYPES = (  # number, name, number of its DI parent or 0, of its PLCopen parent or 0, abstract
    (1001, "CtrlConfigurationType", 1002, 0, False),
    (1002, "CtrlResourceType", 1002, 0, False),
    (1003, "CtrlProgramOrganizationUnitType", 1003, 0, True),
    (1004, "CtrlProgramType", 0, 1003, True),
    (1005, "CtrlFunctionBlockType", 0, 1003, True),
    (1006, "CtrlTaskType", 0, 0, False),
)
_REFERENCES = (
    (4001, "HasInputVar", "InputVarOf", O.HasComponent),
    (4002, "HasOutputVar", "OutputVarOf", O.HasComponent),
    (4003, "HasInOutVar", "InOutVarOf", O.HasComponent),
    (4004, "HasLocalVar", "LocalVarOf", O.HasComponent),
    (4005, "HasExternalVar", "ExternalVarOf", O.Organizes),
    (4006, "With", "Executes", O.NonHierarchicalReferences),
)
_PARTS = (  # number, name, owner, DI type, mandatory
    (5004, "Resources", 1001, 1004, True),
    (5006, "GlobalVars", 1001, 1005, False),
    (5014, "Tasks", 1002, 1004, True),
    (5016, "Programs", 1002, 1004, True),
    (5020, "Status", 1002, 1005, False),
)
_TASK = ((6004, "Priority", O.UInt32, True), (6005, "Interval", O.String, False), (6006, "Single", O.String, False))


def install(nodes: MutableMapping[ua.NodeId, NodeData], spaces: Spaces) -> None:
    """Adds all of them, and what leads to them."""

    def add(head: Head, parent: ua.NodeId, kind: int, **attributes: ua.DataValue) -> NodeData:
        made = make(head, attributes)
        nodes[head.id] = made
        link(nodes[parent], made, standard(kind), head)
        return made

    def di(name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, spaces.di)

    def plc(name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, spaces.plc)

    for number, name, parent, is_standard, abstract in _DI_TYPES:
        above = standard(parent) if is_standard else spaces.di_id(parent)
        head = Head(spaces.di_id(number), di(name), C.ObjectType)
        add(head, above, O.HasSubtype, IsAbstract=attribute(abstract, ua.VariantType.Boolean))
    head = Head(spaces.di_id(5001), di("DeviceSet"), C.Object, standard(O.BaseObjectType))
    add(head, standard(O.ObjectsFolder), O.Organizes)
    for number, name, in_di, in_plc, abstract in _PLC_TYPES:
        above = standard(O.BaseObjectType)
        if in_di or in_plc:
            above = spaces.di_id(in_di) if in_di else spaces.plc_id(in_plc)
        head = Head(spaces.plc_id(number), plc(name), C.ObjectType)
        add(head, above, O.HasSubtype, IsAbstract=attribute(abstract, ua.VariantType.Boolean))
    for number, name, inverse, parent in _REFERENCES:
        head = Head(spaces.plc_id(number), plc(name), C.ReferenceType)
        add(
            head, standard(parent), O.HasSubtype,
            IsAbstract=attribute(False, ua.VariantType.Boolean),
            Symmetric=attribute(False, ua.VariantType.Boolean),
            InverseName=attribute(ua.LocalizedText(inverse), ua.VariantType.LocalizedText),
        )  # fmt: skip
    for name, (number, base) in PLC_TYPES.items():
        head = Head(spaces.plc_id(number), plc(name), C.DataType)
        add(head, standard(base), O.HasSubtype, IsAbstract=attribute(False, ua.VariantType.Boolean))
    for number, name, owner, kind, mandatory in _PARTS:
        head = Head(spaces.plc_id(number), plc(name), C.Object, spaces.di_id(kind))
        _rule(nodes, add(head, spaces.plc_id(owner), O.HasComponent), mandatory)
    for number, name, data_type, mandatory in _TASK:
        head = Head(spaces.plc_id(number), plc(name), C.Variable, standard(O.PropertyType))
        made = add(
            head, spaces.plc_id(1006), O.HasProperty,
            DataType=attribute(standard(data_type), ua.VariantType.NodeId),
            Value=ua.DataValue(ua.Variant(None, ua.VariantType.Null)),
        )  # fmt: skip
        _rule(nodes, made, mandatory)
    head = Head(spaces.plc_id(15001), plc(PLC_URI), C.Object, standard(O.NamespaceMetadataType))
    add(head, standard(O.Server_Namespaces), O.HasComponent)
    for number, name, value, kind in (
        (15002, "NamespaceUri", PLC_URI, ua.VariantType.String),
        (15003, "NamespaceVersion", "1.02", ua.VariantType.String),
        (15005, "IsNamespaceSubset", True, ua.VariantType.Boolean),
    ):
        head = Head(spaces.plc_id(number), ua.QualifiedName(name, 0), C.Variable, standard(O.PropertyType))
        add(
            head, spaces.plc_id(15001), O.HasProperty,
            DataType=attribute(standard(kind.value), ua.VariantType.NodeId), Value=attribute(value, kind),
        )  # fmt: skip

    for node in list(nodes.values()):
        name_targets(node, nodes.get)


def _rule(nodes: MutableMapping[ua.NodeId, NodeData], made: NodeData, mandatory: bool) -> None:
    number = O.ModellingRule_Mandatory if mandatory else O.ModellingRule_Optional
    head = Head(standard(number), ua.QualifiedName("Mandatory" if mandatory else "Optional", 0), C.Object)
    made.references.append(head.reference(standard(O.HasModellingRule)))
