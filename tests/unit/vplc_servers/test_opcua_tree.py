"""The nodes of a program: nothing leads nowhere, references go both ways, a new version takes the place of the old."""

from __future__ import annotations

from pathlib import Path

import pytest
from asyncua import ua
from asyncua.server.address_space import NodeData, NodeManagementService
from asyncua.server.standard_address_space.standard_address_space import fill_address_space
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from tests.unit.vplc_servers.plant_program import TEXT, of, plant
from vplc.servers.configuration import opcua
from vplc.servers.model import Model
from vplc.servers.opcua.companion import Spaces, install, standard
from vplc.servers.opcua.shapes import Shapes
from vplc.servers.opcua.space import Nodes, Space
from vplc.servers.opcua.tree import Tree

SPACES = Spaces(2, 3, 4)
SETTINGS = opcua(
    {"writable": ["One.setpoint"], "units": {"One.setpoint": {"unit": "mm", "min": 0, "max": 100}}},
    "s.json", Path(), "tank",
)  # fmt: skip


@pytest.fixture(scope="module")
def fixed() -> Space:
    space = Space()
    fill_address_space(NodeManagementService(space))
    space.nodes.own = SPACES.own
    install(space.nodes, SPACES)
    return space


def plant_nodes(space: Space, model: Model) -> Nodes:
    tree = Tree(model, SPACES, SETTINGS, lambda _: ua.DataValue(), Shapes(model, SPACES))
    space.nodes.tree = tree
    tree.attach(space.nodes)
    return space.nodes


def own(identifier: str) -> ua.NodeId:
    return ua.NodeId(ua.String(identifier), ua.Int16(SPACES.own))


def reachable(nodes: Nodes) -> dict[ua.NodeId, NodeData]:
    """What a client finds that browses from the device set and the types, in our namespaces."""
    todo = [SPACES.di_id(5001), standard(ObjectIds.Structure), standard(ObjectIds.Enumeration), SPACES.plc_id(1003)]
    found: dict[ua.NodeId, NodeData] = {}
    while todo:
        one = todo.pop()
        if one in found:
            continue
        found[one] = nodes[one]
        todo.extend(r.NodeId for r in nodes[one].references if r.IsForward and r.NodeId.NamespaceIndex >= 2)
    return found


def test_no_reference_leads_nowhere_or_to_something_else_than_it_says(fixed: Space) -> None:
    nodes = plant_nodes(fixed, plant())
    found = reachable(nodes)
    assert len(found) > 250
    for one in found.values():
        for reference in one.references:
            target = nodes.get(reference.NodeId)
            assert target is not None, (one.nodeid, reference)
            name = target.attributes[AttributeIds.BrowseName].value
            node_class = target.attributes[AttributeIds.NodeClass].value
            assert name is not None
            assert node_class is not None
            if reference.NodeId.NamespaceIndex >= 2:
                assert reference.BrowseName == name.Value.Value, (one.nodeid, reference)
                assert reference.NodeClass == node_class.Value.Value, (one.nodeid, reference)


def test_what_an_owner_has_knows_its_owner(fixed: Space) -> None:
    nodes = plant_nodes(fixed, plant())
    one_way = {standard(ObjectIds.HasTypeDefinition), standard(ObjectIds.HasModellingRule), SPACES.plc_id(4005)}
    for one in reachable(nodes).values():
        for reference in one.references:
            if reference.ReferenceTypeId in one_way or reference.NodeId.NamespaceIndex < 2:
                continue
            back = [
                r for r in nodes[reference.NodeId].references
                if r.NodeId == one.nodeid and r.IsForward != reference.IsForward
                and r.ReferenceTypeId == reference.ReferenceTypeId
            ]  # fmt: skip
            assert back, (one.nodeid, reference)


def test_every_variable_of_the_program_is_found(fixed: Space) -> None:
    model = plant()
    found = reachable(plant_nodes(fixed, model))
    for v in model.known.rows:
        assert own(v.path) in found, v.path


@pytest.mark.parametrize(
    ("identifier", "kind"),
    [("One.meter.step", 4001), ("One.meter.q", 4002), ("One.meter.sum", 4004), ("One.plain", 4004), ("total", 4005)],
)
def test_sections_are_told_by_the_reference(fixed: Space, identifier: str, kind: int) -> None:
    nodes = plant_nodes(fixed, plant())
    owner = nodes[own("One.meter" if "meter" in identifier else "One")]
    [found] = [r for r in owner.references if r.NodeId == own(identifier)]
    assert found.ReferenceTypeId == SPACES.plc_id(kind)


def test_an_instance_is_of_the_type_of_its_block(fixed: Space) -> None:
    nodes = plant_nodes(fixed, plant())
    [kind] = [
        r for r in nodes[own("One.meter")].references if r.ReferenceTypeId == standard(ObjectIds.HasTypeDefinition)
    ]
    assert kind.NodeId == own("type:Meter")
    [above] = [r for r in nodes[kind.NodeId].references if not r.IsForward]
    assert above.NodeId == SPACES.plc_id(1005)
    members = {r.BrowseName.Name: r.ReferenceTypeId for r in nodes[kind.NodeId].references if r.IsForward}
    assert members["io"] == SPACES.plc_id(4003)


def test_enumerations_tell_their_names(fixed: Space) -> None:
    nodes = plant_nodes(fixed, plant())
    strings = nodes[own("type:Phase|EnumStrings")].attributes[AttributeIds.Value].value
    assert strings is not None
    assert [t.Text for t in strings.Value.Value] == ["Idle", "Filling", "Draining"]
    values = nodes[own("type:Mode|EnumValues")].attributes[AttributeIds.Value].value
    assert values is not None
    assert {v.DisplayName.Text: v.Value for v in values.Value.Value} == {"Off": 0, "Auto": 1, "Manual": 5}


def test_only_granted_variables_say_they_are_writable(fixed: Space) -> None:
    nodes = plant_nodes(fixed, plant())
    for path, level in (("One.setpoint", 3), ("One.plain", 1), ("One.r", 1)):
        found = nodes[own(path)].attributes[AttributeIds.AccessLevel].value
        assert found is not None
        assert found.Value.Value == level


def test_the_next_version_takes_the_place_of_the_one_before(fixed: Space) -> None:
    plant_nodes(fixed, plant())
    text = TEXT.replace("setpoint : REAL := 50.0;", "fresh : REAL;").replace("Phase", "Stage")
    nodes = plant_nodes(fixed, of(text, version=2))
    assert own("One.fresh") in nodes
    assert own("One.setpoint") not in nodes
    assert own("type:Stage") in reachable(nodes)
    assert own("type:Phase") not in reachable(nodes)
    assert len([r for r in nodes[SPACES.di_id(5001)].references if r.NodeId == own("@configuration")]) == 1


def test_unknown_identifiers_are_unknown(fixed: Space) -> None:
    nodes = plant_nodes(fixed, plant())
    for wrong in (
        "One.nothing",
        "one.plain",
        "One.plain|EURange",
        "type:Nothing",
        "type:Meter|nothing",
        "@nothing",
        "",
    ):
        assert own(wrong) not in nodes
    assert ua.NodeId(ua.Int32(5), ua.Int16(SPACES.own)) not in nodes
