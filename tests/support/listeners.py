"""Which TCP ports a process listens on, from the kernel's tables."""

from __future__ import annotations

from pathlib import Path

LISTEN = "0A"


def tcp_listeners(pid: int) -> list[str]:
    """``address:port`` in the kernel's hexadecimal, of every listening TCP socket the process holds."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                found.append(fields[1])
    return found
