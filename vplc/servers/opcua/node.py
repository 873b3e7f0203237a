"""Nodes of the address space as the library holds them, made in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

A = AttributeIds
V = ua.VariantType
_NOTHING = ua.NodeId()
_UNNAMED = ua.QualifiedName("", 0)
_READ = 1  # the bit CurrentRead of an access level


def attribute(value: Any, kind: ua.VariantType) -> ua.DataValue:
    return ua.DataValue(ua.Variant(value, kind))


@dataclass(frozen=True, slots=True)
class Head:
    """What others see of a node: identifier, name, class and type definition."""

    id: ua.NodeId
    name: ua.QualifiedName
    node_class: ua.NodeClass
    type: ua.NodeId = field(default=_NOTHING)
    display: str = ""

    def reference(self, kind: ua.NodeId, forward: bool = True) -> ua.ReferenceDescription:
        """A reference to this node."""
        return ua.ReferenceDescription(
            ReferenceTypeId=kind,
            IsForward=forward,
            NodeId=self.id,
            BrowseName=self.name,
            DisplayName=ua.LocalizedText(self.display or self.name.Name),
            NodeClass=self.node_class,
            TypeDefinition=self.type,
        )


_ZERO = attribute(0, V.UInt32)
_SCALAR = attribute(-1, V.Int32)
_READABLE = attribute(_READ, V.Byte)
_FALSE = attribute(False, V.Boolean)
_NO_EVENTS = attribute(0, V.Byte)
_CLASSES = {c: attribute(c.value, V.Int32) for c in ua.NodeClass}
_HAS_TYPE = ua.NodeId(ua.Int32(ObjectIds.HasTypeDefinition))


def make(head: Head, attributes: Mapping[str, ua.DataValue]) -> NodeData:
    """A node with the attributes of its class; `attributes` by name fill in and go before the usual ones."""
    text = ua.LocalizedText(head.display or head.name.Name)
    rows: dict[AttributeIds, ua.DataValue] = {
        A.NodeId: attribute(head.id, V.NodeId),
        A.NodeClass: _CLASSES[head.node_class],
        A.BrowseName: attribute(head.name, V.QualifiedName),
        A.DisplayName: attribute(text, V.LocalizedText),
        A.WriteMask: _ZERO,
        A.UserWriteMask: _ZERO,
    }
    if head.node_class == ua.NodeClass.Variable:
        rows |= {A.ValueRank: _SCALAR, A.AccessLevel: _READABLE, A.UserAccessLevel: _READABLE, A.Historizing: _FALSE}
    elif head.node_class == ua.NodeClass.Object:
        rows[A.EventNotifier] = _NO_EVENTS
    for name, value in attributes.items():
        rows[getattr(A, name)] = value
    made = NodeData(head.id)
    made.attributes = {k: AttributeValue(v) for k, v in rows.items()}
    if head.type is not _NOTHING and not head.type.is_null():
        variable = head.node_class == ua.NodeClass.Variable
        node_class = ua.NodeClass.VariableType if variable else ua.NodeClass.ObjectType
        made.references.append(Head(head.type, _UNNAMED, node_class).reference(_HAS_TYPE))
    return made


def name_targets(node: NodeData, find: Callable[[ua.NodeId], NodeData | None]) -> None:
    """Completes references that were made from an identifier alone."""
    for reference in node.references:
        target = find(reference.NodeId) if reference.BrowseName is _UNNAMED else None
        if target is not None:
            known = head_of(target)
            reference.BrowseName, reference.NodeClass = known.name, known.node_class
            reference.DisplayName = ua.LocalizedText(known.display or known.name.Name)


def unnamed(identifier: ua.NodeId, node_class: ua.NodeClass) -> Head:
    """The head of a node whose name is looked up later."""
    return Head(identifier, _UNNAMED, node_class)


def head_of(node: NodeData) -> Head:
    """The head of a node that is there already."""

    def value(which: AttributeIds) -> Any:
        found = node.attributes[which].value
        return found.Value.Value if found is not None and found.Value is not None else None

    return Head(node.nodeid, value(A.BrowseName), ua.NodeClass(value(A.NodeClass)))


def link(parent: NodeData, child: NodeData, kind: ua.NodeId, head: Head) -> None:
    """References both ways."""
    parent.references.append(head.reference(kind))
    child.references.append(head_of(parent).reference(kind, forward=False))
