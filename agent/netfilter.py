"""The kernel's packet filter, through iptables, and its log of denied packets, through netlink.

``agent.conduits`` says which rules; this puts them in, one transaction at a time, counts, and takes them out again. It
touches no chain but this node's, and the first rule of the three chains that lead there. Blocking; called from a worker
thread. Where this machine or this user cannot, it says why: it never pretends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from agent import conduits
from manifests.errors import MachineError

RULES_NAME = "conduits.rules"  # in the state folder: what stood last
_TIMEOUT_S = 20
_CAP_NET_ADMIN = 1 << 12
_BRIDGE = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
# linux/netfilter/nfnetlink_log.h
_NETLINK_NETFILTER = 12
_ULOG, _PACKET, _CONFIG = 4, 0, 1
_CFG_CMD, _CFG_MODE, _CMD_BIND, _COPY_PACKET = 1, 2, 1, 2
_PAYLOAD = 9
_HEAD_BYTES = 64  # of each packet: addresses and ports
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}


@dataclass(frozen=True, slots=True)
class Denied:
    """One packet that was not let through."""

    source: str
    destination: str
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.destination}" + (f":{self.port}" if self.port else "")


class Netfilter:
    """The rules of one node."""

    def __init__(self, site: str, node: str) -> None:
        self.mark = conduits.mark_of(site, node)
        self._applied: str | None = None
        self._log: socket.socket | None = None

    def unable(self) -> str:
        """Why rules cannot be put into this kernel; empty when they can."""
        if not all(shutil.which(name) for name in ("iptables-save", "iptables-restore")):
            return "iptables is not installed"
        if not _may_administer():
            return "the agent lacks the capability NET_ADMIN"
        try:
            bridged = _BRIDGE.read_text("ascii").strip() == "1"
        except OSError:
            bridged = False
        return "" if bridged else "bridged packets are not filtered (load br_netfilter, bridge-nf-call-iptables=1)"

    def saved(self) -> str:
        """All rules with their counters. Raises MachineError."""
        return _run("iptables-save", "-c", "-t", "filter")

    def apply(self, passing: list[conduits.Passage], saved: str) -> bool:
        """Make the kernel hold exactly these; True when something was changed. Raises MachineError."""
        wanted = conduits.render(self.mark, passing)
        hooks = conduits.missing_hooks(saved, self.mark)
        if wanted == self._applied and not hooks and conduits.chains_of(saved, self.mark):
            return False
        text = conduits.render(self.mark, passing, hooks)
        if ":DOCKER-USER " not in saved:  # no engine has run since the machine started: it keeps what it finds
            text = text.replace("*filter\n", "*filter\n:DOCKER-USER - [0:0]\n")
        unused = set(conduits.chains_of(saved, self.mark)) - set(conduits.chains_of(wanted, self.mark))
        emptied = "".join(f":{chain} - [0:0]\n" for chain in sorted(unused))
        _run("iptables-restore", "--noflush", "--wait=5", given=text.replace("*filter\n", f"*filter\n{emptied}", 1))
        if unused:
            removed = "".join(f"-X {chain}\n" for chain in sorted(unused))
            _run("iptables-restore", "--noflush", "--wait=5", given=f"*filter\n{removed}COMMIT\n")
        self._applied = wanted
        return True

    def remove(self) -> None:
        """Take everything of this node out. Raises MachineError."""
        saved = self.saved()
        chains = conduits.chains_of(saved, self.mark)
        if not chains:
            return
        jumps = "".join(
            f"-D {hook} -j {self.mark}\n" for hook in conduits.HOOKS if f"-A {hook} -j {self.mark}" in saved
        )
        cleared = "".join(f":{chain} - [0:0]\n" for chain in chains)
        _run("iptables-restore", "--noflush", "--wait=5", given=f"*filter\n{cleared}{jumps}COMMIT\n")
        removed = "".join(f"-X {chain}\n" for chain in chains)
        _run("iptables-restore", "--noflush", "--wait=5", given=f"*filter\n{removed}COMMIT\n")
        self._applied = None

    def denied(self) -> list[Denied]:
        """What the kernel told of denied packets since the last call; a sample, not all. Never raises."""
        found: list[Denied] = []
        try:
            if self._log is None:
                self._log = _listen(conduits.log_group(self.mark))
            while len(found) < 1000:
                found += _packets(self._log.recv(1 << 16))
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        return found

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


def restore(rules: Path) -> bool:
    """Put the rules of ``rules`` back after the machine started, before the engine does; ``sluice agent conduits``.

    False when there are none, or they stand already. Raises MachineError.
    """
    try:
        text = rules.read_text("ascii")
    except FileNotFoundError:
        return False
    except (OSError, UnicodeError) as error:
        raise MachineError(f"cannot be read: {error}", where=str(rules)) from error
    saved = _run("iptables-save", "-c", "-t", "filter")
    marks = [line[1:].split(" ")[0] for line in text.splitlines() if line.startswith(":SLUICE-")]
    if not marks or conduits.chains_of(saved, marks[0]):
        return False
    if ":DOCKER-USER " not in saved:  # the engine keeps what it finds there
        text = text.replace("*filter\n", "*filter\n:DOCKER-USER - [0:0]\n", 1)
    _run("iptables-restore", "--noflush", "--wait=5", given=text)
    return True


def _run(*command: str, given: str = "") -> str:
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"{command[0]} does not run: {error}", where="conduits") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[:300]
        raise MachineError(f"the kernel refused the rules: {said}", where="conduits")
    return done.stdout


def _may_administer() -> bool:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) & _CAP_NET_ADMIN)
    return os.geteuid() == 0


# ---------------------------------------------------------------- the log


def _listen(group: int) -> socket.socket:
    """Raises OSError, also when another process has this group."""
    line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        line.bind((0, 0))
        line.settimeout(2.0)
        for kind, value in (
            (_CFG_CMD, struct.pack("B", _CMD_BIND)),
            (_CFG_MODE, struct.pack(">IBB", _HEAD_BYTES, _COPY_PACKET, 0)),
        ):
            attribute = struct.pack("=HH", 4 + len(value), kind) + value
            attribute += bytes(-len(attribute) % 4)
            body = struct.pack(">BBH", 0, 0, group) + attribute
            head = struct.pack("=IHHII", 16 + len(body), _ULOG << 8 | _CONFIG, 0x5, 1, 0)  # REQUEST | ACK
            line.send(head + body)
            answer = line.recv(4096)
            (code,) = struct.unpack_from("=i", answer, 16)
            if struct.unpack_from("=H", answer, 4)[0] == 2 and code:
                raise OSError(-code, os.strerror(-code))
        line.setblocking(False)
    except BaseException:
        line.close()
        raise
    return line


def _packets(data: bytes) -> list[Denied]:
    found, at = [], 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            break
        if kind == _ULOG << 8 | _PACKET and (one := _packet(data[at + 20 : at + length])):
            found.append(one)
        at += length + -length % 4
    return found


def _packet(attributes: bytes) -> Denied | None:
    at = 0
    while at + 4 <= len(attributes):
        length, kind = struct.unpack_from("=HH", attributes, at)
        if length < 4:
            return None
        if kind & 0x3FFF == _PAYLOAD:
            return parse_packet(attributes[at + 4 : at + length])
        at += length + -length % 4
    return None


def parse_packet(packet: bytes) -> Denied | None:
    """The ends of an IPv4 packet, from its first bytes; None when it is none."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    begin = 4 * (packet[0] & 15)
    port = 0
    if packet[9] in (6, 17) and len(packet) >= begin + 4:
        (port,) = struct.unpack_from(">H", packet, begin + 2)
    protocol = _PROTOCOLS.get(packet[9], f"protocol {packet[9]}")
    return Denied(str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20])), protocol, port)
