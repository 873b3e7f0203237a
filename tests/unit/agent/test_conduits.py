"""Which hosts a configuration calls, who may then call whom, and the rules that say so to the kernel."""

from __future__ import annotations

import struct

from agent.conduits import (
    Endpoint,
    Opening,
    Passage,
    choose_address,
    denied_counts,
    endpoints,
    mark_of,
    missing_hooks,
    passages,
    render,
)
from agent.netfilter import Denied, parse_packet
from manifests.model import Conduit, Service

MARK = mark_of("hamburg", "edge1")


def test_hosts_are_found_beside_ports_and_in_urls_wherever_they_stand() -> None:
    config = {
        "live": {"host": "broker", "port": 1883},
        "devices": [{"host": "10.1.2.3"}, {"host": "pump", "port": 5020}],
        "endpoints": [{"url": "opc.tcp://press:4840/ua"}, {"url": "opc.tcp://[::1]"}],
        "remark": "see http is fine",
    }
    assert set(endpoints(config)) == {
        Endpoint("broker", 1883),
        Endpoint("10.1.2.3"),
        Endpoint("pump", 5020),
        Endpoint("press", 4840),
        Endpoint("::1"),
    }


def test_what_a_configuration_leaves_to_its_schema_is_called_too() -> None:
    schema = {
        "$ref": "#/$defs/C",
        "$defs": {"C": {"properties": {"live": {"default": {"host": "broker", "port": 1883}}}}},
    }
    assert endpoints({}, schema) == (Endpoint("broker", 1883),)
    assert endpoints({"live": None}, schema) == ()


def _of(conduits: list[Conduit], *calls: Endpoint, **known: str) -> tuple[list[Passage], list[str]]:
    return passages(
        "pumps",
        addresses={"ot": "10.0.0.200", "site": "10.1.0.200"},
        conduits=conduits,
        provides=[Service(name="hmi", segment="site", port=1502)],
        calls=calls,
        resolve=lambda _segment, host: [known[host]] if host in known else [],
    )


def test_only_ports_that_both_manifest_and_configuration_name_are_open() -> None:
    (ot, site), lost = _of(
        [Conduit(segment="ot", ports=(502, 5020))], Endpoint("pump", 5020), Endpoint("x", 22), pump="10.0.0.7"
    )
    assert ot.out == (Opening("10.0.0.7", "tcp", (5020,)),)
    assert ot.offers == ()
    assert (site.out, site.offers) == ((), (1502,))
    assert lost == []


def test_a_host_without_a_port_may_be_called_at_the_conduits_ports_and_no_others() -> None:
    (ot, _), _ = _of([Conduit(segment="ot", ports=(502, 503))], Endpoint("pump"), pump="10.0.0.7")
    assert ot.out == (Opening("10.0.0.7", "tcp", (502, 503)),)


def test_a_conduit_without_ports_opens_nothing_and_a_lost_name_is_said() -> None:
    (ot, _), lost = _of([Conduit(segment="ot"), Conduit(segment="ot", ports=(502,))], Endpoint("pump", 502))
    assert ot.out == ()
    assert lost == ["pump"]


def test_addresses_are_stable_come_from_the_upper_half_and_avoid_those_taken() -> None:
    first = choose_address("192.168.80.0/24", set(), "hamburg/edge1/pumps")
    assert first is not None
    assert first == choose_address("192.168.80.0/24", set(), "hamburg/edge1/pumps")
    assert 128 <= int(first.split(".")[3]) <= 254
    other = choose_address("192.168.80.0/24", {first}, "hamburg/edge1/pumps")
    assert other not in (None, first)
    assert choose_address("192.168.80.0/30", {"192.168.80.2"}, "k") is None


def test_every_instance_ends_in_a_drop_both_ways_and_replies_pass() -> None:
    text = render(MARK, [Passage("pumps", "ot", "10.0.0.200", (Opening("10.0.0.7", "tcp", (502,)),), (1502,))])
    rules = [line for line in text.splitlines() if line.startswith("-A")]
    assert "ESTABLISHED,RELATED" in rules[0]
    assert f"-A {MARK} -s 10.0.0.200/32 -d 10.0.0.7/32 -p tcp -m multiport --dports 502 -g {MARK}-IN" in rules
    drops = [rule for rule in rules if rule.endswith("-j DROP")]
    assert [drop.split(" -m ")[0] for drop in drops] == [
        f"-A {MARK} -s 10.0.0.200/32",
        f"-A {MARK}-IN -d 10.0.0.200/32",
    ]
    assert text.startswith("*filter\n")
    assert text.endswith("COMMIT\n")


def test_reading_conduits_are_inspected_before_replies_pass() -> None:
    text = render(MARK, [Passage("pumps", "ot", "10.0.0.200", (Opening("10.0.0.7", "tcp", (502,), True),))])
    lines = text.splitlines()
    inspected = next(i for i, line in enumerate(lines) if line.endswith(f"-j {MARK}-R0"))
    assert inspected < next(i for i, line in enumerate(lines) if "ESTABLISHED" in line)


def test_counters_of_both_directions_are_added_and_of_other_nodes_ignored() -> None:
    other = mark_of("leipzig", "edge1")
    saved = "\n".join(
        [
            f'[3:180] -A {MARK} -s 10.0.0.200/32 -m comment --comment "denied pumps ot" -j DROP',
            f'[2:120] -A {MARK}-IN -d 10.0.0.200/32 -m comment --comment "denied pumps ot" -j DROP',
            f'[9:540] -A {other} -s 10.9.0.200/32 -m comment --comment "denied pumps ot" -j DROP',
            f"[7:420] -A {MARK} -s 10.0.0.200/32 -m limit --limit 10/sec -j NFLOG --nflog-group 4242",
        ]
    )
    assert denied_counts(saved, MARK) == {"pumps": 5}


def test_a_hook_counts_only_when_nothing_but_other_nodes_comes_before() -> None:
    other = mark_of("leipzig", "edge1")
    saved = "\n".join(
        [
            f"[0:0] -A DOCKER-USER -j {other}",
            f"[0:0] -A DOCKER-USER -j {MARK}",
            "[0:0] -A INPUT -p tcp -j ACCEPT",
            f"[0:0] -A INPUT -j {MARK}",
        ]
    )
    assert missing_hooks(saved, MARK) == ["INPUT", "OUTPUT"]


def test_the_ends_of_a_denied_packet_are_read_whatever_it_holds() -> None:
    head = bytes([0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 200, 10, 0, 0, 7])
    assert parse_packet(head + struct.pack(">HH", 40000, 22)) == Denied("10.0.0.200", "10.0.0.7", "tcp", 22)
    assert str(parse_packet(head[:9] + b"\x01" + head[10:])) == "icmp 10.0.0.7"
    assert parse_packet(b"") is None
    assert parse_packet(bytes(40)) is None
