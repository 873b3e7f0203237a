"""What the orchestrator is told at start, checked all at once."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from manifests.errors import DocumentError, Problem
from manifests.validate import nearest
from orchestrator.people.oidc import OidcConfig
from orchestrator.people.oidc import load as load_oidc
from orchestrator.people.passwords import LONGEST, SHORTEST
from orchestrator.people.permissions import Role

ONLINE_FILES = (
    "director.pem",
    "catalog-timestamp.pem",
    "site-ca.pem",
    "site-ca-chain.pem",
    "server.pem",
    "server-chain.pem",
    "server-ca.pem",
    "roots/catalog.root.json",
    "roots/director.root.json",
)
_ADDRESS = re.compile(r"^(?:\[([0-9a-fA-F:]+)\]|([^:\[\]]*)):(\d{1,5})$")


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int  # 0 = any free one

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """``report_s``: how often agents report; a site is offline after three times that without a word.

    ``second_factor``: roles whose holders must have one.

    ``single_person``: a rollout's two approvals may come from one person.
    ``renew_days``: how long after its end a certificate is renewed by its old key alone; later somebody must approve.
    ``keep_days``: blocks, gaps and events older than this are deleted; 0 keeps them for ever.
    """

    data: Path
    keys: Path
    database: str
    agent_listen: Address
    operator_listen: Address
    public_agent_url: str
    console: Path | None
    admin_password: str | None = None
    operator_certificate: Path | None = None
    operator_key: Path | None = None
    report_s: float = 10.0
    round_s: float = 1.0
    password_length: int = SHORTEST
    second_factor: frozenset[Role] = frozenset()
    oidc: OidcConfig | None = None
    keep_days: int = 30
    single_person: bool = False
    agent_proxy_socket: Path | None = None
    renew_days: int = 180

    @property
    def offline_after_ns(self) -> int:
        return int(3 * self.report_s * 1e9)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the orchestrator's own folder")
    parser.add_argument("--keys", type=Path, required=True, metavar="DIR", help="the online folder of the keys")
    parser.add_argument("--database", metavar="URL", help="postgresql://... (default: SQLite in the data folder)")
    parser.add_argument("--agent-listen", default="0.0.0.0:8443", metavar="HOST:PORT", help="for agents, TLS 1.3")
    parser.add_argument(
        "--agent-proxy-socket",
        type=Path,
        metavar="PATH",
        help="also serve agents here, for a proxy that ends their TLS: only here is X-Client-Cert believed",
    )
    parser.add_argument("--operator-listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="for people")
    parser.add_argument("--operator-cert", type=Path, metavar="FILE", help="serve people by TLS with this chain")
    parser.add_argument("--operator-key", type=Path, metavar="FILE", help="its private key")
    parser.add_argument("--console", type=Path, metavar="DIR", help="the built console (default: the one installed)")
    parser.add_argument("--public-agent-url", metavar="URL", help="how agents reach --agent-listen; goes into tokens")
    parser.add_argument("--admin-password-file", type=Path, metavar="FILE", help="set this password if none is set")
    single = "one person may approve a rollout for OT and for IT: for small plants"
    parser.add_argument("--single-person", action="store_true", help=single)
    parser.add_argument("--password-length", type=int, default=SHORTEST, metavar="N", help="shortest password")
    roles = ", ".join(Role)
    parser.add_argument("--second-factor", default="", metavar="ROLE,...", help=f"roles that need one, of: {roles}")
    parser.add_argument("--oidc", type=Path, metavar="FILE", help="people log in at an identity provider too")
    parser.add_argument("--report-seconds", type=float, default=30.0, metavar="S", help="how often agents report")
    renew = "after its end a node's certificate is renewed by its old key alone for so long; 0 = always ask"
    parser.add_argument("--renew-days", type=int, default=180, metavar="N", help=renew)
    parser.add_argument("--keep-days", type=int, default=30, metavar="N", help="keep history and events; 0 = for ever")


def check(options: argparse.Namespace) -> Settings:
    """Raises DocumentError with every mistake."""
    problems: list[Problem] = []

    def wrong(option: str, what: str, hint: str = "") -> None:
        problems.append(Problem("command line", option, what, hint))

    data: Path = options.data
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        wrong("--data", f"cannot make {data}: {error.strerror}")
    keys: Path = options.keys
    missing = [name for name in ONLINE_FILES if not (keys / name).is_file()]
    if missing:
        hint = "make keys with `sluice keys init` and give its online folder"
        wrong("--keys", f"{keys} lacks {', '.join(missing)}", hint)
    database = options.database or f"sqlite:///{data / 'sluice.db'}"
    try:
        if make_url(database).get_backend_name() not in ("sqlite", "postgresql"):
            wrong("--database", "only sqlite:///FILE and postgresql://USER@HOST/NAME are known")
    except ArgumentError:
        wrong("--database", "not a database URL", "postgresql://user:password@host/name")
    proxy_socket: Path | None = options.agent_proxy_socket
    if proxy_socket is not None and not proxy_socket.absolute().parent.is_dir():
        wrong("--agent-proxy-socket", f"{proxy_socket.parent} is not a folder", "make it, for the proxy's group only")
    if proxy_socket is not None and len(str(proxy_socket.absolute())) > 100:
        wrong("--agent-proxy-socket", "longer than the 100 characters a Unix socket's path may have")
    agent = _address(options.agent_listen)
    operator = _address(options.operator_listen)
    for option, address in (("--agent-listen", agent), ("--operator-listen", operator)):
        if address is None:
            wrong(option, "not HOST:PORT", "for example 0.0.0.0:8443 or [::]:8443")
    if agent is not None and operator is not None and agent == operator and agent.port:
        wrong("--operator-listen", "the same address as --agent-listen", "people and agents use two ports")
    certificate, key = options.operator_cert, options.operator_key
    if (certificate is None) != (key is None):
        wrong("--operator-cert", "certificate and key belong together", "give both or none")
    for option, file in (("--operator-cert", certificate), ("--operator-key", key)):
        if file is not None and not file.is_file():
            wrong(option, f"{file} is not a file")
    console: Path | None = options.console
    if console is not None and not (console / "index.html").is_file():
        wrong("--console", f"{console} holds no index.html", "build the console first")
    if console is None:
        installed = Path(__file__).parent / "console" / "dist"
        console = installed if (installed / "index.html").is_file() else None
    url = options.public_agent_url or (f"https://{_reachable(agent)}" if agent else "")
    parts = urlsplit(url)
    if url and (parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query):
        wrong("--public-agent-url", f"{url!r} is not https://HOST:PORT")
    if not 0.2 <= options.report_seconds <= 3600:
        wrong("--report-seconds", "not between 0.2 and 3600")
    if not 0 <= options.keep_days <= 36_500:
        wrong("--keep-days", "not between 0 (for ever) and 36500")
    if not 0 <= options.renew_days <= 3650:
        wrong("--renew-days", "not between 0 (always ask) and 3650")
    if not 8 <= options.password_length <= 64:
        wrong("--password-length", "not between 8 and 64")
    second_factor: set[Role] = set()
    for word in filter(None, (part.strip() for part in options.second_factor.split(","))):
        try:
            second_factor.add(Role(word))
        except ValueError:
            wrong("--second-factor", f"no role {word!r}", nearest(word, Role) or f"roles: {', '.join(Role)}")
    provider: OidcConfig | None = None
    if options.oidc is not None:
        try:
            provider = load_oidc(options.oidc)
        except DocumentError as error:
            problems.extend(error.problems)
    password = _password(options.admin_password_file, options.password_length, wrong)
    if problems or agent is None or operator is None:
        raise DocumentError(problems)
    return Settings(
        data=data,
        keys=keys,
        database=database,
        agent_listen=agent,
        operator_listen=operator,
        public_agent_url=url.rstrip("/"),
        console=console,
        admin_password=password,
        operator_certificate=certificate,
        operator_key=key,
        report_s=options.report_seconds,
        keep_days=options.keep_days,
        renew_days=options.renew_days,
        single_person=options.single_person,
        password_length=options.password_length,
        second_factor=frozenset(second_factor),
        oidc=provider,
        agent_proxy_socket=proxy_socket,
    )


def _password(file: Path | None, shortest: int, wrong: object) -> str | None:
    assert callable(wrong)
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        wrong("--admin-password-file", f"cannot read {file}: {error}")
        return None
    if not shortest <= len(text) <= LONGEST:
        wrong("--admin-password-file", f"a password has {shortest} to {LONGEST} characters")
    return text


def _address(text: str) -> Address | None:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        return None
    return Address(match[1] or match[2] or "0.0.0.0", int(match[3]))


def _reachable(address: Address) -> str:
    """An address that listens everywhere is reached by some name; on one machine that is localhost."""
    everywhere = address.host in ("0.0.0.0", "::")
    return str(Address("localhost", address.port)) if everywhere else str(address)


def format_problems(problems: Sequence[Problem]) -> str:
    return "\n\n".join(str(problem) for problem in problems)
