"""A root file system with little in it, made from Debian packages.

Called by `build` for the Python base and for the broker. `mmdebstrap` fetches and unpacks the packages
(signatures checked by apt); of them only the named files, the libraries these need and the copyright notices
stay. It runs no package script and needs no chroot, so the result has no shell and no package manager.
"""

from __future__ import annotations

import fnmatch
import io
import posixpath
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

from workloads.images import ImageError
from workloads.images.elf import needed

SUITE = "bookworm"
USER = 10001  # high enough to collide with no account of a host

_DEBIAN = {"arm": "armhf"}  # where the engine and Debian disagree on a name

_ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nsluice:x:{USER}:{USER}:sluice:/app:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nsluice:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True, slots=True)
class Rootfs:
    """What to fetch and what of it to keep; patterns are fnmatch on the path without leading slash."""

    packages: tuple[str, ...]
    keep: tuple[str, ...]
    drop: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


PYTHON = Rootfs(
    # libstdc++ and libgcc are what a manylinux wheel may expect of its host (PEP 600).
    packages=("python3.11-minimal", "libpython3.11-stdlib", "tzdata", "libstdc++6", "libgcc-s1"),
    keep=(
        "usr/bin/python3.11",
        "usr/lib/python3.11/*",
        "etc/python3.11/*",
        "usr/share/zoneinfo/*",
        "usr/lib/*/libstdc++.so.6*",
        "lib/*/libgcc_s.so.1",
        "lib/*/libm.so.6",
        "lib/*/libpthread.so.0",  # empty since glibc 2.34, yet older wheels still name these
        "lib/*/libdl.so.2",
        "lib/*/librt.so.1",
        "lib/*/libutil.so.1",
        "lib/*/libresolv.so.2",
    ),
    drop=(
        "usr/share/zoneinfo/right/*",
        "usr/share/zoneinfo/posix/*",
        "usr/lib/python3.11/pydoc_data/*",
        "usr/lib/python3.11/test/*",
        "usr/lib/python3.11/curses/*",
        "usr/lib/python3.11/turtle.py",
        "usr/lib/python3.11/__phello__/*",
        # Each of these would pull in libraries that a container without a terminal never uses.
        "usr/lib/python3.11/lib-dynload/_curses*",
        "usr/lib/python3.11/lib-dynload/_dbm*",
        "usr/lib/python3.11/lib-dynload/nis.*",
        "usr/lib/python3.11/lib-dynload/readline.*",
        "usr/lib/python3.11/lib-dynload/ossaudiodev.*",
        "usr/lib/python3.11/lib-dynload/_test*",
        "usr/lib/python3.11/lib-dynload/_ctypes_test*",
        "usr/lib/python3.11/lib-dynload/_xx*",
        "usr/lib/python3.11/lib-dynload/xx*",
    ),
    links={"usr/bin/python3": "python3.11", "usr/bin/python": "python3.11"},
)

_STDLIB = "usr/lib/python3.11/"
_UNUSED_PACKAGES = (
    "ensurepip", "idlelib", "lib2to3", "multiprocessing", "pydoc_data", "sqlite3", "test", "tkinter", "turtledemo",
    "unittest", "venv", "wsgiref", "xml", "xmlrpc", "curses", "dbm", "distutils", "__phello__", "html", "http",
    "email/mime",
)  # fmt: skip
_UNUSED_MODULES = (
    "turtle", "pydoc", "doctest", "pdb", "tarfile", "zipfile", "imaplib", "smtplib", "mailbox", "nntplib", "ftplib",
    "poplib", "telnetlib", "cgi", "cgitb", "optparse", "pickletools", "plistlib", "aifc", "wave", "sunau", "chunk",
    "webbrowser", "trace", "cProfile", "profile", "pstats", "lzma", "bz2", "_pydecimal", "_pyio", "tabnanny", "pyclbr",
    "pipes", "crypt", "fileinput", "netrc", "modulefinder", "smtpd", "asynchat", "asyncore", "mailcap",
    "sched", "getopt", "sndhdr", "imghdr", "uu", "xdrlib", "nturl2path", "binhex", "antigravity",
)  # fmt: skip
_UNUSED_LIBRARIES = (
    "_curses", "_dbm", "nis", "readline", "ossaudiodev", "_test", "_ctypes_test", "_xx", "xx", "_ssl", "_hashlib",
    "_sqlite3", "_codecs_", "_lzma", "_bz2", "audioop", "_multi", "_crypt", "spwd", "pyexpat", "_lsprof",
)  # fmt: skip
_UNUSED_CODECS = (
    "mac_", "cp1", "cp7", "cp8", "cp9", "iso", "koi", "hp_", "big5", "gb", "euc_", "shift", "johab", "hz", "ptcp", "kz",
    "palmos", "tis", "quopri", "bz2_", "uu_", "rot_", "hex_", "base64_", "mbcs", "oem", "utf_7", "undefined",
)  # fmt: skip

PYTHON_SMALL = Rootfs(
    # For a process that speaks plain sockets: no TLS, no database, no tool, no encodings of other centuries.
    packages=("python3.11-minimal", "libpython3.11-stdlib"),
    keep=(
        "usr/bin/python3.11",
        "usr/lib/python3.11/*",
        "etc/python3.11/*",
        "lib/*/libm.so.6",
        "lib/*/libpthread.so.0",
        "lib/*/libdl.so.2",
        "lib/*/librt.so.1",
    ),
    drop=(
        *(f"{_STDLIB}{name}/*" for name in _UNUSED_PACKAGES),
        *(f"{_STDLIB}{name}.py" for name in _UNUSED_MODULES),
        *(f"{_STDLIB}lib-dynload/{name}*" for name in _UNUSED_LIBRARIES),
        *(f"{_STDLIB}encodings/{name}*" for name in _UNUSED_CODECS),
        f"{_STDLIB}config-3.11-*",
    ),
    links={"usr/bin/python3": "python3.11", "usr/bin/python": "python3.11"},
)

BROKER = Rootfs(packages=("mosquitto",), keep=("usr/sbin/mosquitto",))


def make(rootfs: Rootfs, target: Path, architecture: str) -> None:
    """Write the file system as a tar to `target`; identical packages give identical bytes.

    `architecture` is the engine's name for it, such as amd64.

    Raises ImageError when mmdebstrap is missing or cannot fetch.
    """
    raw = target.with_suffix(".raw.tar")
    fetch(rootfs.packages, raw, architecture)
    try:
        with tarfile.open(raw) as archive:
            entries = _read(archive)
        chosen = select(entries, rootfs)
        chosen |= status_of(entries[PACKAGES].data.decode(), chosen)
    finally:
        raw.unlink(missing_ok=True)
    temporary = target.with_suffix(".part")
    with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as out:
        _write(out, chosen, rootfs.links)
    temporary.replace(target)


PACKAGES = "packages.list"  # which package, in which version, brought which file
# Nothing is installed, so no package manager knows; said while the packages are still there.
_LIST_PACKAGES = (
    'for deb in "$1"/var/cache/apt/archives/*.deb; do '
    "dpkg-deb --show --showformat='= ${Package} ${Version} ${Architecture}\\n' \"$deb\"; "
    'dpkg-deb --fsys-tarfile "$deb" | tar -t; done > "$1"/' + PACKAGES
)


def status_of(packages: str, chosen: Iterable[str]) -> dict[str, Entry]:
    """A record of every package of which a file stays, where scanners look for it in images without dpkg."""
    kept = {path for path in chosen if not path.startswith("usr/share/doc/")}
    found: dict[str, Entry] = {}
    stanza, name = "", ""
    for line in packages.splitlines():
        if line.startswith("= "):
            _, name, version, architecture = line.split(" ")
            stanza = (
                f"Package: {name}\nStatus: install ok installed\nVersion: {version}\nArchitecture: {architecture}\n"
            )
        elif line.removeprefix("./") in kept:
            found[f"var/lib/dpkg/status.d/{name}"] = Entry(0o644, stanza.encode())
    return found


def fetch(packages: Iterable[str], target: Path, architecture: str) -> None:
    """Unpack Debian packages and what they depend on into a tar."""
    tool = which("mmdebstrap")
    if tool is None:
        raise ImageError("mmdebstrap is not installed", "base image", "run `./run setup images`")
    command = [
        tool,
        "--quiet",
        "--variant=extract",
        f"--architectures={_DEBIAN.get(architecture, architecture)}",
        f"--include={','.join(packages)}",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        f"--extract-hook={_LIST_PACKAGES}",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        SUITE,
        str(target),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ImageError(
            f"mmdebstrap failed:\n{done.stderr.strip()[-2000:]}",
            f"Debian {SUITE} packages {', '.join(packages)}",
            "check that `apt-get update` works, and on a non-Debian host install debian-archive-keyring",
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or symbolic link of the archive."""

    mode: int
    data: bytes = b""
    link: str | None = None


def select(entries: Mapping[str, Entry], rootfs: Rootfs) -> dict[str, Entry]:
    """The wanted files, closed over the libraries they load and the links that lead to them."""
    wanted = [
        path
        for path in entries
        if _any(path, rootfs.keep) and not _any(path, rootfs.drop) and "/__pycache__/" not in path
    ]
    by_name: dict[str, str] = {}
    for path in sorted(entries, reverse=True):  # lib/ wins over usr/lib/: the loader's own order
        if path.startswith(("lib/", "usr/lib/", "lib64/")) and ".so" in path and path.count("/") <= 3:
            by_name[posixpath.basename(path)] = path
    chosen: dict[str, Entry] = {}
    while wanted:
        path = wanted.pop()
        if path in chosen or path not in entries:
            continue
        entry = entries[path]
        chosen[path] = entry
        if entry.link is not None:
            wanted.append(_resolve(path, entry.link))
            continue
        for name in needed(entry.data):
            wanted.append(name.lstrip("/") if name.startswith("/") else by_name.get(name, name))
    for path, entry in entries.items():
        if fnmatch.fnmatch(path, "usr/share/doc/*/copyright"):
            chosen[path] = entry
    return chosen


def _any(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _resolve(path: str, link: str) -> str:
    if link.startswith("/"):
        return link.lstrip("/")
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _read(archive: tarfile.TarFile) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for member in archive:
        path = member.name.removeprefix("./").strip("/")
        if member.issym():
            entries[path] = Entry(member.mode, link=member.linkname)
        elif member.isreg() or member.islnk():
            source = archive.extractfile(member)
            entries[path] = Entry(member.mode & 0o755, source.read() if source else b"")
    return entries


def _write(out: tarfile.TarFile, chosen: Mapping[str, Entry], links: Mapping[str, str]) -> None:
    everything = dict(chosen)
    everything |= {path: Entry(0o644, text.encode()) for path, text in _ACCOUNTS.items()}
    everything |= {path: Entry(0o777, link=to) for path, to in links.items()}
    for folder in _folders(everything):
        info = tarfile.TarInfo(folder)
        info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
        out.addfile(info)
    for path in sorted(everything):
        entry = everything[path]
        info = tarfile.TarInfo(path)
        info.mode = entry.mode
        if entry.link is not None:
            info.type, info.linkname = tarfile.SYMTYPE, entry.link
            out.addfile(info)
        else:
            info.size = len(entry.data)
            out.addfile(info, io.BytesIO(entry.data))


def _folders(paths: Iterable[str]) -> Iterator[str]:
    found = {"tmp", "run", "var/lib", "dev", "proc", "sys", "etc", "app"}
    for path in paths:
        found.update(parent.as_posix() for parent in Path(path).parents)
    for path in list(found):
        found.update(parent.as_posix() for parent in Path(path).parents)
    return iter(sorted(found - {"."}))
