"""Defect orders: kinematics, the library, and orders people type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import DocumentError
from workloads.vibration.bearing import LIBRARY, Geometry, by_name, check_orders, completed, orders_of


def test_a_round_geometry_gives_the_orders_worked_out_by_hand() -> None:
    orders = orders_of(Geometry(9, 0.2, 1.0))
    assert (orders.ftf, orders.bpfo, orders.bpfi, orders.bsf) == pytest.approx((0.4, 3.6, 5.4, 2.4))


@given(st.integers(3, 40), st.floats(0.05, 0.6), st.floats(0, 45))
def test_the_races_orders_sum_to_the_elements_and_the_cage_carries_them(n: int, ratio: float, angle: float) -> None:
    orders = orders_of(Geometry(n, ratio, 1.0, angle))
    assert orders.bpfo + orders.bpfi == pytest.approx(n)
    assert orders.bpfo == pytest.approx(n * orders.ftf)


def test_a_turning_outer_ring_changes_the_cage_only() -> None:
    inner, outer = orders_of(Geometry(9, 0.2, 1.0)), orders_of(Geometry(9, 0.2, 1.0), outer_turns=True)
    assert outer.ftf == pytest.approx(0.6)
    assert (outer.bpfo, outer.bpfi, outer.bsf) == (inner.bpfo, inner.bpfi, inner.bsf)


def test_an_impossible_geometry_is_refused_with_all_its_mistakes() -> None:
    with pytest.raises(DocumentError) as caught:
        orders_of(Geometry(1, -3, -5, 95))
    assert [problem.path for problem in caught.value.problems] == ["elements", "diameter", "pitch", "contactDeg"]


def test_every_bearing_of_the_library_can_be_built() -> None:
    for name, geometry in LIBRARY.items():
        orders = by_name(name)
        assert 0.3 < orders.ftf < 0.5, name
        assert geometry.pitch * 3.1416 > geometry.elements * geometry.diameter, f"{name}: the elements do not fit"


def test_suffixes_do_not_change_the_geometry_and_a_slip_of_the_pen_gets_a_hint() -> None:
    assert by_name("6205-2RS/C3") == by_name("6205")
    with pytest.raises(DocumentError, match="did you mean 6205"):
        by_name("62O5")


def test_typed_orders_are_refused_with_every_mistake() -> None:
    with pytest.raises(DocumentError) as caught:
        check_orders({"bpfo": -1.0, "bpfi": float("nan"), "bfs": 2.0})
    assert [problem.path for problem in caught.value.problems] == ["bfs", "ftf", "bsf", "bpfo", "bpfi"]


def test_exchanged_races_are_noticed() -> None:
    with pytest.raises(DocumentError, match="exchanged"):
        check_orders({"ftf": 0.4, "bsf": 2.4, "bpfo": 5.4, "bpfi": 3.6})


def test_the_races_tell_the_cage_and_the_element_when_they_are_missing() -> None:
    orders = orders_of(Geometry(9, 0.2, 1.0))
    full = completed({"bpfo": orders.bpfo, "bpfi": orders.bpfi})
    assert (full["ftf"], full["bsf"]) == pytest.approx((orders.ftf, orders.bsf))
    assert completed({"bpfo": 3.6, "bpfi": 5.4, "bsf": 2.0})["bsf"] == 2.0


def test_what_the_races_do_not_tell_stays_missing() -> None:
    for given_ in ({"bpfo": 3.6}, {"bpfo": 5.4, "bpfi": 3.6}, {"bpfo": 3.6, "bpfi": "x"}):
        assert completed(given_) == given_  # type: ignore[arg-type]  # lists are written by machines
