"""Conduits of containers of a Docker Engine: fixed addresses on its bridges, and the kernel's rules for them.

The runtime asks for addresses before it makes a container, admits it before it starts it, and refreshes at every look.
What an instance may call is kept in a label of its container, so that an agent that begins anew, or an engine that
does, changes nothing. Where a network cannot be guarded (no bridge, no subnet of its own, IPv6) or this machine has no
filter, the instance runs all the same, and its status says loudly that its conduits are not enforced.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

import msgspec

from agent.conduits import HOOKS, Endpoint, Passage, choose_address, denied_counts, endpoints, passages, render
from agent.ledger import write_atomic
from agent.netfilter import RULES_NAME, Denied, Netfilter
from agent.runtimes.base import Wanted
from manifests.errors import MachineError
from manifests.model import Conduit, Service

LABEL = "sluice.conduits"
FIXED_LABEL = "sluice.subnet"  # on networks made here: addresses in them may be chosen
NOT_ENFORCED = "conduits NOT enforced"
CHECK_S = 5.0  # counters are read, and rules that somebody removed are put back
LOOKUP_S = 30.0


class Admission(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a container may do on its networks, as its label keeps it. ``networks``: segment -> the engine's name."""

    networks: Mapping[str, str] = {}
    addresses: Mapping[str, str] = {}
    unguarded: Mapping[str, str] = {}  # segment -> why
    conduits: tuple[Conduit, ...] = ()
    provides: tuple[Service, ...] = ()
    calls: tuple[tuple[str, int], ...] = ()


class DockerConduits:
    """All of one node. ``hosts``: names that agent.yaml gives addresses. ``absent``: what the engine's API raises for
    something that is not there."""

    def __init__(
        self,
        folder: Path,
        *,
        site: str,
        node: str,
        hosts: Mapping[str, str],
        absent: type[Exception],
        netfilter: Netfilter | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules_path = folder / RULES_NAME
        self._site, self._node = site, node
        self._hosts = hosts
        self._absent = absent
        self._netfilter = netfilter or Netfilter(site, node)
        self._monotonic = monotonic
        self._names = NameService(monotonic)
        self._lock = threading.RLock()
        self._admitted: dict[str, Admission] = {}
        self._aliases: dict[tuple[str, str], tuple[str, ...]] = {}  # (container, endpoint) -> its names there
        self._on_network: dict[str, dict[str, str]] = {}  # network -> name -> address
        self._lost: dict[str, list[str]] = {}
        self._text = ""
        self._checked = -CHECK_S
        self._seen: dict[str, int] = {}  # the kernel's counters at the last reading
        self._denied: dict[str, int] = {}
        self._last: dict[str, tuple[int, str]] = {}
        self._floating: set[str] = set()
        self._taken: set[str] = set()
        self.fault = ""

    # ------------------------------------------------------------ before a container is made

    def admission(self, api: Any, instance: Wanted, networks: Mapping[str, str]) -> Admission:
        """Addresses and rights for a container that is about to be made."""
        with self._lock:
            self.fault = self._netfilter.unable()
            addresses, unguarded = {}, {}
            for segment, network in networks.items():
                facts = api.inspect_network(network)
                reason = self.fault or self._unguardable(network, facts)
                if reason:
                    unguarded[segment] = reason
                    continue
                pool, taken = _pool(facts)
                taken |= self._taken | _labelled(api)
                address = choose_address(pool, taken, f"{self._site}/{self._node}/{instance.name}") if pool else None
                if address is None:
                    unguarded[segment] = f"network {network} has no address left to choose"
                else:
                    addresses[segment] = address
            calls = endpoints(instance.config, instance.release.config_schema)
            return Admission(
                networks=dict(networks),
                addresses=addresses,
                unguarded=unguarded,
                conduits=instance.release.conduits,
                provides=instance.release.provides,
                calls=tuple((call.host, call.port) for call in calls),
            )

    def _unguardable(self, network: str, facts: Mapping[str, Any]) -> str:
        if facts.get("Driver") != "bridge":
            return f"network {network} is no bridge ({facts.get('Driver')})"
        if facts.get("EnableIPv6"):
            return f"network {network} speaks IPv6"
        if network in self._floating:
            return f"network {network} has no subnet of its own (docker network create --subnet)"
        return ""

    def learn(self, said: str, admission: Admission) -> bool:
        """Whether the engine's refusal was about addresses, and another try with others makes sense."""
        if "user configured subnets" in said:
            fresh = {network for network in admission.networks.values() if network not in self._floating}
            self._floating |= fresh
            return bool(fresh)
        if "ddress already in use" in said:
            fresh = set(admission.addresses.values()) - self._taken
            self._taken |= fresh
            return bool(fresh)
        return False

    def admit(self, api: Any, name: str, admission: Admission) -> None:
        """Its rules are in the kernel when this returns. Raises MachineError: then it must not start."""
        with self._lock:
            if admission.addresses:
                self._admitted[name] = admission
                self._look(api)
                self._put(check=True)

    # ------------------------------------------------------------ at every look

    def refresh(self, api: Any, labels: Mapping[str, Mapping[str, str]]) -> None:
        """``labels``: of each container of this node, by instance. Never raises for the kernel's sake: ``fault``."""
        with self._lock:
            self._admitted = {name: found for name, own in labels.items() if (found := _admission(own))}
            self._lost = {name: lost for name, lost in self._lost.items() if name in labels}
            try:
                self.fault = self._netfilter.unable()
                if not self.fault and (self._admitted or self._text):
                    self._look(api)
                    self._put(check=self._monotonic() - self._checked >= CHECK_S)
            except MachineError as error:
                self.fault = error.what

    def note(self, name: str, networks: Iterable[str]) -> str:
        """What people must know of one instance; empty when all its conduits are enforced."""
        with self._lock:
            found = self._admitted.get(name)
            if not list(networks):
                return ""
            if found is None:
                return f"{NOT_ENFORCED}: it was made by an earlier agent; a new start enforces them"
            if self.fault:
                return f"{NOT_ENFORCED}: {self.fault}"
            if found.unguarded:
                return f"{NOT_ENFORCED} on {'; '.join(f'{s}: {why}' for s, why in sorted(found.unguarded.items()))}"
            lost = self._lost.get(name)
            return f"no address is known for {', '.join(lost)}: closed" if lost else ""

    def denied(self, name: str) -> tuple[int, str, int]:
        """Packets of one instance that were not let through, the last one noted, and when (ns since the epoch)."""
        with self._lock:
            at_ns, text = self._last.get(name, (0, ""))
            return self._denied.get(name, 0), text, at_ns

    def remove(self) -> None:
        """Take all rules out: nothing of this node runs any more. Raises MachineError."""
        with self._lock:
            if not self._netfilter.unable():
                self._netfilter.remove()
            self._rules_path.unlink(missing_ok=True)
            self._text = ""

    def _look(self, api: Any) -> None:
        """Who is where on the networks of this node's segments."""
        used = {network for found in self._admitted.values() for network in found.networks.values()}
        fresh: dict[tuple[str, str], tuple[str, ...]] = {}
        places: dict[str, dict[str, str]] = {}
        for network in used:
            try:
                there = api.inspect_network(network).get("Containers") or {}
            except self._absent:
                continue
            names = places.setdefault(network, {})
            for container, endpoint in there.items():
                key = (container, str(endpoint.get("EndpointID", "")))
                known = self._aliases.get(key)
                fresh[key] = self._names_of(api, container, network) if known is None else known
                address = str(endpoint.get("IPv4Address", "")).partition("/")[0]
                for name in fresh[key] if address else ():
                    names.setdefault(name, address)
        self._aliases, self._on_network = fresh, places

    def _names_of(self, api: Any, container: str, network: str) -> tuple[str, ...]:
        try:
            found = api.inspect_container(container)
        except self._absent:
            return ()
        ends = found["NetworkSettings"]["Networks"].get(network) or {}
        return (str(found["Name"]).lstrip("/"), *(ends.get("Aliases") or ()))

    def _passing(self) -> list[Passage]:
        found: list[Passage] = []
        for name, admission in sorted(self._admitted.items()):

            def resolve(segment: str, host: str, networks: Mapping[str, str] = admission.networks) -> list[str]:
                return self._resolve(segment, networks.get(segment, ""), host)

            calls = [Endpoint(host, port) for host, port in admission.calls]
            own, lost = passages(
                name,
                addresses=admission.addresses,
                conduits=admission.conduits,
                provides=admission.provides,
                calls=calls,
                resolve=resolve,
            )
            found += own
            self._lost[name] = lost
        return found

    def _resolve(self, segment: str, network: str, host: str) -> list[str]:
        host = self._hosts.get(host, host)
        with contextlib.suppress(AddressValueError):
            return [str(IPv4Address(host))]
        neighbour = self._admitted.get(host)
        if neighbour and any(service.segment == segment for service in neighbour.provides):
            address = neighbour.addresses.get(segment)
            if address and neighbour.networks.get(segment) == network:
                return [address]
        if (address := self._on_network.get(network, {}).get(host)) is not None:
            return [address]
        return self._names.look_up(host)

    def _put(self, *, check: bool) -> None:
        passing = self._passing()
        text = render(self._netfilter.mark, passing, HOOKS)
        if text == self._text and not check:
            return
        saved = self._netfilter.saved()
        self._count(saved, passing)
        if self._netfilter.apply(passing, saved):
            self._seen = {}
        if text != self._text:
            write_atomic(self._rules_path, text.encode(), 0o600)
        self._text, self._checked = text, self._monotonic()

    def _count(self, saved: str, passing: Iterable[Passage]) -> None:
        counts = denied_counts(saved, self._netfilter.mark)
        for name, count in counts.items():
            before = self._seen.get(name, 0)
            self._denied[name] = self._denied.get(name, 0) + (count - before if count >= before else count)
        self._seen = counts
        places = {one.address: one.instance for one in passing}
        for packet in self._netfilter.denied():
            for end, words in ((packet.source, "to"), (packet.destination, "from")):
                if end in places:
                    self._last[places[end]] = (time.time_ns(), _told(packet, words))
                    break


class NameService:
    """The machine's own, asked in the background: a slow one must not hold up a look. Remembers for half a minute."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, list[str]]] = {}
        self._asking: dict[str, Future[list[str]]] = {}
        self._asker: ThreadPoolExecutor | None = None

    def look_up(self, host: str) -> list[str]:
        asking = self._asking.get(host)
        if asking is not None and asking.done():
            del self._asking[host]
            self._known[host] = (self._monotonic(), asking.result())
        at, known = self._known.get(host, (-LOOKUP_S, []))
        if self._monotonic() - at >= LOOKUP_S and host not in self._asking:
            self._asker = self._asker or ThreadPoolExecutor(1, thread_name_prefix="names")
            self._asking[host] = self._asker.submit(_addresses, host)
        return known


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(entry[4][0]) for entry in found})


def _told(packet: Denied, words: str) -> str:
    if words == "to":
        return f"to {packet}"
    return f"from {packet.source} to {packet.protocol}" + (f" port {packet.port}" if packet.port else "")


def admission_of(labels: Mapping[str, str]) -> Admission:
    """Of a container that exists; empty for one that an earlier agent made."""
    return _admission(labels) or Admission()


def _admission(labels: Mapping[str, str]) -> Admission | None:
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(labels.get(LABEL, ""), type=Admission)
    return None


def _labelled(api: Any) -> set[str]:
    """Addresses of all containers that agents made, running or not."""
    found: set[str] = set()
    for entry in api.containers(all=True, filters={"label": LABEL}):
        if admission := _admission(entry.get("Labels") or {}):
            found |= set(admission.addresses.values())
    return found


def _pool(network: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Where addresses may be chosen, and which are taken."""
    configs = [one for one in (network.get("IPAM") or {}).get("Config") or () if ":" not in one.get("Subnet", ":")]
    if not configs:
        return "", set()
    first = configs[0]
    taken = {str(first.get("Gateway", "")).partition("/")[0], *(first.get("AuxiliaryAddresses") or {}).values()}
    for endpoint in (network.get("Containers") or {}).values():
        taken.add(str(endpoint.get("IPv4Address", "")).partition("/")[0])
    return str(first.get("IPRange") or first["Subnet"]), taken


def create_network(api: Any, name: str, labels: Mapping[str, str]) -> None:
    """An internal network whose addresses can be chosen: the engine picks a free subnet, and is then told to use it."""
    api.create_network(name, driver="bridge", internal=True, check_duplicate=True)
    try:
        subnet = api.inspect_network(name)["IPAM"]["Config"][0]["Subnet"]
    finally:
        api.remove_network(name)
    ipam = {"Driver": "default", "Config": [{"Subnet": subnet}]}
    fixed = {**labels, FIXED_LABEL: "fixed"}
    api.create_network(name, driver="bridge", internal=True, check_duplicate=True, labels=fixed, ipam=ipam)
