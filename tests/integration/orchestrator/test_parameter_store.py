"""Live parameters in each database: laid down once per name, counted as revisions, gone when taken back."""

from __future__ import annotations

from manifests.model import Node, Site
from orchestrator.store import Store, parameters, sites


def test_parameters_are_kept_replaced_and_removed(database: str) -> None:
    store = Store(database)
    try:
        with store.write() as conn:
            sites.put_listed(conn, "acme", {"hamburg": Site(name="hamburg", nodes=(Node(name="edge1"),))})
            assert sites.assign(conn, "hamburg", 1, 5)
            parameters.put(conn, "hamburg", "tank", {"level": 1.5, "auto": True}, by="admin", why="first", now_ns=7)
            parameters.put(conn, "hamburg", "tank", {"level": {"deep": [1]}}, by="anna", why="second", now_ns=8)
            parameters.put(conn, "leipzig", "tank", {"level": 2}, by="admin", why="other site", now_ns=9)
            assert [sites.revise(conn, "hamburg") for _ in range(2)] == [1, 2]
        with store.read() as conn:
            assert parameters.overlays(conn, ["hamburg"]) == {
                "hamburg": {"tank": {"level": {"deep": [1]}, "auto": True}}
            }
            assert set(parameters.overlays(conn)) == {"hamburg", "leipzig"}
            level = parameters.of_site(conn, "hamburg")[1]
            assert (level.name, level.set_by, level.why, level.set_ns) == ("level", "anna", "second", 8)
            known = sites.get(conn, "hamburg")
            assert known is not None
            assert (known.assigned_generation, known.revision) == (1, 2)
        with store.write() as conn:
            parameters.remove(conn, "hamburg", "tank", ["level", "unknown"])
            assert sites.assign(conn, "hamburg", 2, 6)
        with store.read() as conn:
            assert parameters.overlays(conn, ["hamburg"]) == {"hamburg": {"tank": {"auto": True}}}
            known = sites.get(conn, "hamburg")
            assert known is not None
            assert known.revision == 0  # counted anew within each generation
    finally:
        store.close()
