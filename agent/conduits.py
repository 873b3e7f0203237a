"""What may pass between a workload and its segments, as rules for the kernel (IEC 62443 conduits). Pure.

The signed release names segments, ports and transport of what an instance calls (``conduits``) and of what it offers
(``provides``); its configuration names the hosts. Whatever neither names is denied, both ways: to other workloads, to
the node itself, to anything else. A container runtime gives each instance one fixed address per segment, so that the
rules stand before its first packet and outlive restarts of the instance, the engine and the agent. ``agent.netfilter``
puts them into the kernel.

``render`` writes them for iptables-restore, as one chain of outward and one of inward rules per node. ``inspect:
modbus-read`` narrows a conduit to Modbus reads (functions 1 to 4): a packet passes when it carries nothing, or exactly
one whole read request of 12 bytes. The first that is neither ends its connection: nothing that carries data passes
there again. So whatever a device receives was cut, when it was first sent, into whole reads from the first byte on; a
write cannot be put together out of pieces, overlaps or bytes that TCP calls urgent (receivers take those out of the
stream). It rests on the machine's own TCP: a workload has no raw sockets. Two requests in one packet end a connection
too; a client that waits for its answer, as Modbus devices want it, never sends that.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests.model import Conduit, Service

MAX_DEPTH = 12
MAX_ENDPOINTS = 1000
MAX_PORTS = 15  # of one multiport match
SPOILT = "0x20000000/0x20000000"  # connection mark of one that tried something else than to read
NOTED_PER_S = 10  # denied packets told with their destination; all are counted
HOOKS = ("DOCKER-USER", "INPUT", "OUTPUT")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://(?:[^/@\s]*@)?(\[[0-9a-fA-F:]+\]|[^/:\s\[\]]+)(?::(\d{1,5}))?(?:/|$)")
_COUNTED = re.compile(r'^\[(\d+):\d+\] -A \S+ .*--comment "?denied (\S+) (\S+)"?.* -j DROP$')


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """A host as a configuration names it; port 0: it names none, so any port of the conduit."""

    host: str
    port: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Opening:
    """One thing that may be called: everything else may not. ``reads``: Modbus read requests only."""

    destination: str
    protocol: str
    ports: tuple[int, ...]
    reads: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """One instance in one segment: its address there, what it may call, and the TCP ports it offers."""

    instance: str
    segment: str
    address: str
    out: tuple[Opening, ...] = ()
    offers: tuple[int, ...] = ()


# ---------------------------------------------------------------- what a configuration calls


def endpoints(config: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> tuple[Endpoint, ...]:
    """Every host that a configuration names: ``host`` with its ``port``, and URLs; with the defaults of its schema."""
    found: set[Endpoint] = set()
    _walk(_filled(config, schema or {}, schema or {}, 0), found, 0)
    return tuple(sorted(found)[:MAX_ENDPOINTS])


def _walk(value: Any, found: set[Endpoint], depth: int) -> None:
    if depth > MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        host, port = value.get("host"), value.get("port", 0)
        if isinstance(host, str) and host:
            given = isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536
            found.add(Endpoint(host, port if given else 0))
        for inner in value.values():
            _walk(inner, found, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _walk(inner, found, depth + 1)
    elif isinstance(value, str) and (match := _URL.match(value)):
        found.add(Endpoint(match[1].strip("[]"), int(match[2] or 0)))


def _filled(value: Any, schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    """``value`` with the defaults of the schema's properties where it says nothing."""
    schema = _resolved(schema, root)
    properties = schema.get("properties")
    if depth > MAX_DEPTH or not isinstance(value, Mapping) or not isinstance(properties, Mapping):
        return value
    filled = dict(value)
    for name, inner in properties.items():
        if name in filled:
            filled[name] = _filled(filled[name], inner, root, depth + 1)
        elif isinstance(inner, Mapping) and "default" in inner:
            filled[name] = inner["default"]
    return filled


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(MAX_DEPTH):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        schema = root
        for part in reference[2:].split("/"):
            schema = schema.get(part, {}) if isinstance(schema, Mapping) else {}
    return schema if isinstance(schema, Mapping) else {}


# ---------------------------------------------------------------- who may call whom


def passages(
    instance: str,
    *,
    addresses: Mapping[str, str],
    conduits: Sequence[Conduit],
    provides: Sequence[Service],
    calls: Collection[Endpoint],
    resolve: Callable[[str, str], Collection[str]],
) -> tuple[list[Passage], list[str]]:
    """One passage per segment the instance has an address in, and the hosts that do not resolve.

    ``resolve(segment, host)`` gives IPv4 addresses. A conduit without ports attaches the instance and lets nothing out.
    """
    found, lost = [], set()
    for segment, address in sorted(addresses.items()):
        openings: set[Opening] = set()
        for conduit in conduits:
            if conduit.segment != segment:
                continue
            for call in sorted(calls):
                ports = tuple(port for port in conduit.ports if call.port in (0, port))
                if not ports:
                    continue
                places = resolve(segment, call.host)
                if not places:
                    lost.add(call.host)
                reads = conduit.inspect == "modbus-read"
                openings |= {Opening(place, conduit.protocol, ports, reads) for place in places}
        offers = {service.port for service in provides if service.segment == segment}
        found.append(Passage(instance, segment, address, tuple(sorted(openings)), tuple(sorted(offers))))
    return found, sorted(lost)


def choose_address(subnet: str, taken: Collection[str], key: str) -> str | None:
    """A free address for ``key``, in the upper half of the subnet: engines hand out their own from below.

    None when there is none. The same key prefers the same address, so that a new container takes the old one's.
    """
    network = ipaddress.IPv4Network(subnet)
    size = network.num_addresses
    upper = range(max(2, size // 2), size - 1)
    if not upper:
        return None
    first = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    for step in range(min(len(upper), 4096)):
        address = str(network[upper[(first + step) % len(upper)]])
        if address not in taken:
            return address
    return None


# ---------------------------------------------------------------- rules


def mark_of(site: str, node: str) -> str:
    """The name of a node's chains: several agents may share one machine. At most 28 characters with its endings."""
    return "SLUICE-" + hashlib.sha256(f"{site}/{node}".encode()).hexdigest()[:10]


def log_group(mark: str) -> int:
    """The netfilter log group of a node, above those that people number by hand."""
    return 1024 + int(mark[-8:], 16) % 60000


def render(mark: str, passing: Iterable[Passage], hooks: Collection[str] = ()) -> str:
    """Input of ``iptables-restore --noflush``: replaces this node's chains in one transaction, nobody else's.

    ``hooks`` are the kernel's chains that do not lead here yet.
    """
    out, inward = mark, f"{mark}-IN"
    passing = sorted(passing, key=lambda one: (one.instance, one.segment))
    narrow = [(one, opening) for one in passing for opening in one.out if opening.reads]
    chains = [f":{out} - [0:0]", f":{inward} - [0:0]"]
    rules: list[str] = []
    for number, (one, opening) in enumerate(narrow):
        chain = f"{mark}-R{number}"
        chains.append(f":{chain} - [0:0]")
        rules += _reads_only(chain, one, mark)
        rules += [f"-A {out} {match} -j {chain}" for match in _matches(one, opening)]
    rules.append(f"-A {out} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN")
    for one in passing:
        rules += [f"-A {out} {match} -g {inward}" for opening in one.out for match in _matches(one, opening)]
        rules += _denied(out, f"-s {one.address}/32", one, mark)
    rules.append(f"-A {out} -g {inward}")
    for one in passing:
        for ports in _sliced(one.offers):
            rules.append(f"-A {inward} -d {one.address}/32 -p tcp -m multiport --dports {ports} -j RETURN")
        rules += _denied(inward, f"-d {one.address}/32", one, mark)
    jumps = [f"-I {hook} 1 -j {out}" for hook in hooks]
    return "\n".join(["*filter", *chains, *rules, *jumps, "COMMIT", ""])


def _matches(one: Passage, opening: Opening) -> list[str]:
    ends = f"-s {one.address}/32 -d {opening.destination}/32 -p {opening.protocol}"
    return [f"{ends} -m multiport --dports {ports}" for ports in _sliced(opening.ports)]


def _sliced(ports: Sequence[int]) -> list[str]:
    return [",".join(map(str, ports[i : i + MAX_PORTS])) for i in range(0, len(ports), MAX_PORTS)]


def _denied(chain: str, match: str, one: Passage, mark: str) -> list[str]:
    note = f'-m comment --comment "denied {one.instance} {one.segment}"'
    limit = f"-m limit --limit {NOTED_PER_S}/sec --limit-burst {NOTED_PER_S}"
    return [
        f"-A {chain} {match} {limit} -j NFLOG --nflog-group {log_group(mark)}",
        f"-A {chain} {match} {note} -j DROP",
    ]


def _reads_only(chain: str, one: Passage, mark: str) -> list[str]:
    """Per length of the TCP header: an empty segment, or 12 bytes with protocol 0, length 6, function 1 to 4 (Modbus
    Messaging on TCP/IP Implementation Guide V1.0b, section 3.1.3; Application Protocol V1.1b3, sections 6.1 to 6.4)."""
    spoil = f"-j CONNMARK --set-xmark {SPOILT}"
    rules = [f"-A {chain} -p tcp -m tcp --tcp-flags URG URG {spoil}"]
    for words in range(5, 16):
        begin = 20 + 4 * words
        header = f"0>>24&0x0F=5&&32>>28={words}"
        request = f"{begin}&0xFFFF=0&&{begin + 4}>>16=6&&{begin + 4}&0xFF=1:4"
        calm = f"-A {chain} -p tcp -m tcp --tcp-flags URG NONE"  # an empty one may point to urgent bytes as well
        rules.append(f'{calm} -m u32 --u32 "{header}&&0&0xFFFF={begin}" -j RETURN')
        honest = f"-A {chain} -p tcp -m connmark ! --mark {SPOILT}"
        rules.append(f'{honest} -m u32 --u32 "{header}&&0&0xFFFF={begin + 12}&&{request}" -j RETURN')
    return [*rules, f"-A {chain} {spoil}", *_denied(chain, f"-s {one.address}/32", one, mark)]


def denied_counts(saved: str, mark: str) -> dict[str, int]:
    """Denied packets per instance, from the output of ``iptables-save -c``."""
    counts: dict[str, int] = {}
    for line in saved.splitlines():
        if mark in line and (match := _COUNTED.match(line)):
            counts[match[2]] = counts.get(match[2], 0) + int(match[1])
    return counts


def chains_of(saved: str, mark: str) -> list[str]:
    """The chains of this node that the kernel has."""
    names = (line[1:].split(" ", 1)[0] for line in saved.splitlines() if line.startswith(":"))
    return [name for name in names if name == mark or name.startswith(f"{mark}-")]


def missing_hooks(saved: str, mark: str) -> list[str]:
    """Which of the kernel's chains do not lead to this node's first of all."""
    first: dict[str, list[str]] = {}
    for line in saved.splitlines():
        if match := re.match(r"^(?:\[\d+:\d+\] )?-A (\S+) (.*)$", line):
            first.setdefault(match[1], []).append(match[2])
    return [hook for hook in HOOKS if not _leads(first.get(hook, []), mark)]


def _leads(rules: Sequence[str], mark: str) -> bool:
    """Only other nodes' chains may come before: they let pass what is not theirs."""
    for rule in rules:
        if rule == f"-j {mark}":
            return True
        if not rule.startswith("-j SLUICE-"):
            return False
    return False
