"""What a server offers: variables found by address or below a root, with type, unit, range and description.

Called by ``server`` at every connection. Everything is asked in batches; continuation points are followed.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from manifests.messages import TagType
from workloads.opcua.config import Browse
from workloads.opcua.translate import tag_type

BATCH = 500  # nodes per request: what small servers allow
_HIERARCHICAL, _HAS_PROPERTY, _ENUMERATION = 33, 46, 29
MAX_NODES = 200_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as the server describes it. ``problem`` says why it cannot be a tag; then ``type`` means nothing."""

    name: str
    address: str
    node_id: Any  # ua.NodeId
    type: TagType = TagType.FLOAT
    unit: str = ""
    low: float | None = None
    high: float | None = None
    description: str = ""
    problem: str = ""


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


async def resolve(client: Client, address: str) -> Any:
    """The NodeId of a configured address. Raises ua.UaError or ValueError with the server's or parser's word."""
    if address.startswith("nsu="):
        uri, _, rest = address[4:].partition(";")
        return ua.NodeId.from_string(f"ns={await client.get_namespace_index(uri)};{rest}")
    if address.startswith("ns=") or (len(address) > 1 and address[0] in "isgb" and address[1] == "="):
        return ua.NodeId.from_string(address)
    path = address.removeprefix("/").removeprefix("0:").removeprefix("Objects/")
    if path == "Objects":
        return client.nodes.objects.nodeid
    node = await client.nodes.objects.get_child(path.split("/"))
    return node.nodeid


async def subtree(client: Client, browse: Browse) -> list[Variable]:
    """Every variable below the root whose dotted name is included, undescribed."""
    found: list[Variable] = []
    seen: set[Any] = set()
    level: list[tuple[str, Any]] = [("", await resolve(client, browse.root))]
    for _ in range(browse.depth):
        below: list[tuple[str, Any]] = []
        for part in batches(level):
            for (name, _), references in zip(
                part, await _children(client, [node_id for _, node_id in part]), strict=True
            ):
                for reference in references:
                    node_id = ua.NodeId(reference.NodeId.Identifier, reference.NodeId.NamespaceIndex)
                    if reference.ReferenceTypeId.Identifier == _HAS_PROPERTY or node_id in seen:
                        continue
                    seen.add(node_id)
                    if len(seen) > MAX_NODES:
                        raise ValueError(f"more than {MAX_NODES} nodes below {browse.root}: browse a smaller part")
                    path = _level(reference.BrowseName.Name or "")
                    dotted = f"{name}.{path}" if name else path
                    if reference.NodeClass == ua.NodeClass.Variable and _chosen(dotted, browse):
                        found.append(Variable(dotted[:128], node_id.to_string(), node_id))
                    below.append((dotted, node_id))
        level = below
        if not level:
            break
    if len(found) > browse.max_tags:
        raise ValueError(
            f"{len(found)} variables below {browse.root}, maxTags is {browse.max_tags}: "
            "raise maxTags, or narrow include and exclude"
        )
    return found


def _level(name: str) -> str:
    """A browse name as one level of a topic."""
    return "".join("_" if char in "/+#" or char < " " else char for char in name)


def _chosen(name: str, browse: Browse) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in browse.include) and not any(
        fnmatch.fnmatchcase(name, pattern) for pattern in browse.exclude
    )


async def _children(client: Client, node_ids: Iterable[Any]) -> list[list[Any]]:
    """The hierarchical references of each node, complete."""
    parameters = ua.BrowseParameters()
    parameters.View = ua.ViewDescription()
    parameters.RequestedMaxReferencesPerNode = 0
    for node_id in node_ids:
        description = ua.BrowseDescription()
        description.NodeId = node_id
        description.BrowseDirection = ua.BrowseDirection.Forward
        description.ReferenceTypeId = ua.NodeId(ua.Int32(_HIERARCHICAL))
        description.IncludeSubtypes = True
        description.ResultMask = ua.BrowseResultMask.All
        parameters.NodesToBrowse.append(description)
    session = client.uaclient.session
    lists: list[list[Any]] = []
    for result in await session.browse(parameters):
        references = list(result.References or [])
        point = result.ContinuationPoint
        while point:
            more = ua.BrowseNextParameters()
            more.ContinuationPoints = [point]
            [rest] = await session.browse_next(more)
            references.extend(rest.References or [])
            point = rest.ContinuationPoint
        lists.append(references)
    return lists


async def describe(client: Client, variables: Sequence[Variable]) -> list[Variable]:
    """The same variables with what the server tells of them; what cannot be a tag gets its ``problem``."""
    described: list[Variable] = []
    for part in batches(variables):
        described.extend(await _describe(client, part))
    return described


async def _describe(client: Client, variables: Sequence[Variable]) -> list[Variable]:
    session = client.uaclient.session
    ids = [variable.node_id for variable in variables]
    types = await session.read_attributes(ids, AttributeIds.DataType)
    ranks = await session.read_attributes(ids, AttributeIds.ValueRank)
    texts = await session.read_attributes(ids, AttributeIds.Description)
    facts: list[dict[str, Any]] = [{} for _ in variables]
    wanted: list[tuple[int, str, Any]] = []
    for index, references in enumerate(await _children(client, ids)):
        for reference in references:
            name = reference.BrowseName.Name
            if reference.ReferenceTypeId.Identifier == _HAS_PROPERTY and name in ("EURange", "EngineeringUnits"):
                wanted.append((index, name, ua.NodeId(reference.NodeId.Identifier, reference.NodeId.NamespaceIndex)))
    for batch in batches(wanted):
        values = await session.read_attributes([node_id for _, _, node_id in batch], AttributeIds.Value)
        for (index, name, _), value in zip(batch, values, strict=True):
            facts[index][name] = _value(value)
    enumerations = await _enumerations(client, {_value(each) for each in types})
    return [
        _described(variable, _value(types[i]), _value(ranks[i]), _value(texts[i]), facts[i], enumerations)
        for i, variable in enumerate(variables)
    ]


def _value(data: Any) -> Any:
    return data.Value.Value if data.Value is not None and data.StatusCode.is_good() else None


async def _enumerations(client: Client, types: Iterable[Any]) -> dict[Any, str]:
    """Of the data types that are enumerations: their words, as ``0 Open, 1 Closing``."""
    found: dict[Any, str] = {}
    for node_id in types:
        if node_id is None or node_id.NamespaceIndex == 0:
            continue
        node = client.get_node(node_id)
        parents = await node.get_references(refs=ObjectIds.HasSubtype, direction=ua.BrowseDirection.Inverse)
        if not any(parent.NodeId.Identifier == _ENUMERATION and not parent.NodeId.NamespaceIndex for parent in parents):
            continue
        words = ""
        for child in await node.get_properties():
            values = await child.read_value()
            if isinstance(values, list):
                words = ", ".join(
                    f"{getattr(each, 'Value', number)} {getattr(getattr(each, 'DisplayName', each), 'Text', each)}"
                    for number, each in enumerate(values)
                )
        found[node_id] = words
    return found


def _described(
    variable: Variable, data_type: Any, rank: Any, text: Any, facts: dict[str, Any], enumerations: dict[Any, str]
) -> Variable:
    if data_type is None:
        return replace(variable, problem="the server does not know it, or it is not a variable")
    enumeration = data_type in enumerations
    number = data_type.Identifier if data_type.NamespaceIndex == 0 else -1
    kind = tag_type(number if isinstance(number, int) else -1, enumeration=enumeration)
    if kind is None:
        return replace(
            variable, problem=f"data type {data_type.to_string()} is no number, boolean, text or enumeration"
        )
    if rank is not None and rank >= 0:
        return replace(variable, problem="it is an array")
    unit, band = facts.get("EngineeringUnits"), facts.get("EURange")
    words = [getattr(text, "Text", "") or "", enumerations.get(data_type, "")]
    return replace(
        variable,
        type=kind,
        unit=(getattr(getattr(unit, "DisplayName", None), "Text", "") or "")[:32],
        low=getattr(band, "Low", None),
        high=getattr(band, "High", None),
        description="; ".join(word for word in words if word and word != variable.name)[:500],
    )
