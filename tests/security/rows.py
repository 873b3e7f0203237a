"""The attack table: what an attacker does, and what has to happen. One test per row bears its number.

``./run attack`` prints it with what really happened; ``SECURITY.md`` refers to it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    attack: str
    expected: str


ROWS = tuple(
    Row(number, attack, expected)
    for number, (attack, expected) in enumerate(
        (
            ("compromised orchestrator publishes an unsigned release", "signature refused, old one runs, event"),
            ("... assigns an older signed release", "refused unless allowed by the release or OT"),
            (
                "... assigns the wrong class, another site's, or bad parameters",
                "refused by class, site and signed ranges",
            ),
            ("... removes everything", "control stays without local or OT consent; the rest is a limit"),
            ("stolen director key", "as 1 to 4; the offline root takes it back, also after fast-forward"),
            ("stolen catalog timestamp key", "freeze or fast-forward only; the offline root takes it back"),
            ("one stolen OT key", "the IT approval is still missing"),
            ("stolen site certificate", "sees its own site only; revoked at the next request"),
            ("man in the middle, wrong authority, TLS downgrade, flipped bits", "no connection"),
            ("replay, also after a restart and onto a restored disk", "refused; a restored disk is noticed"),
            ("freeze", "alarm, no stop"),
            ("mix-and-match, cross-site replay", "refused, what was accepted is unchanged"),
            ("endless data, slow answers, compression bomb, redirect", "bounded, ended, refused"),
            ("tag mutation", "tags are never used"),
            ("blob altered, cut, disk full", "removed, resumed, clean error"),
            ("local operator edits files", "named at boot, not believed"),
            ("token theft: reuse, race, expiry, other node", "403, the second use alarms"),
            ("tricks in the certificate request", "ignored or 400, never 500"),
            ("forged client-certificate header, request smuggling", "ignored; 400"),
            ("cross-site request forgery against the console", "403"),
            ("markup in names, logs and answers", "shown as text, no script runs"),
            ("reading others' objects, stepping up in rights", "401, 403 or 404"),
            ("release with ../, links, absolute paths, NUL, huge strings", "refused at signing and on the node"),
            ("YAML bombs, duplicate keys, deep nesting", "refused, bounded"),
            ("privileged container, devices, host namespaces, sockets", "cannot be said; the container has none"),
            ("making the orchestrator call an inner address", "it calls no address it is given"),
            ("forged log lines", "one JSON object per line, whatever the names hold"),
            ("database administrator edits the audit log", "found by the heads that sites hold"),
            ("slow heads, hasty calls", "cut off; others are served; Retry-After"),
            ("malicious or interrupted agent update", "the centre has no way to update it; false packages are named"),
            ("clock at 1970 or 2100", "named, keeps running"),
            ("blob swapped between check and use", "hashed again, refused"),
        ),
        start=1,
    )
)
