"""Every table of the centre. Times are nanoseconds since the Unix epoch, UTC, in columns that end in ``_ns``.

Read by the modules beside it and by the migrations' check; nobody else names a table.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite gives row numbers only to INTEGER keys; PostgreSQL needs 64 bits.
RowId = BigInteger().with_variant(Integer, "sqlite")

# ---------------------------------------------------------------- sites

site = Table(
    "site",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("document", Text, nullable=False),  # manifests.model.Site as JSON
    Column("enterprise", Text, nullable=False),
    Column("listed", Boolean, nullable=False),  # in the newest generation
    Column("assigned_generation", BigInteger),
    Column("assigned_ns", BigInteger),
    Column("revision", BigInteger, nullable=False, server_default="0"),  # changes of parameters since it was assigned
)
parameter = Table(
    "parameter",
    metadata,
    Column("site", String(63), primary_key=True),
    Column("instance", String(63), primary_key=True),
    Column("name", String(1000), primary_key=True),
    Column("value", Text, nullable=False),  # JSON
    Column("set_ns", BigInteger, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("why", Text, nullable=False),
)
secret = Table(
    "secret",
    metadata,
    Column("site", String(63), primary_key=True),
    Column("instance", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("node", String(63), nullable=False),
    Column("sealed", Text, nullable=False),  # manifests.model.SealedSecret as JSON: ciphertext
    Column("set_ns", BigInteger, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("why", Text, nullable=False),
)
node = Table(
    "node",
    metadata,
    Column("site", String(63), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("report", LargeBinary, nullable=False),  # manifests.messages.StatusReport
    Column("received_ns", BigInteger, nullable=False),
    Column("online_since_ns", BigInteger, nullable=False),
)
certificate = Table(
    "certificate",
    metadata,
    Column("serial", String(64), primary_key=True),
    Column("site", String(63), nullable=False),
    Column("node", String(63), nullable=False),
    Column("issued_ns", BigInteger, nullable=False),
    Column("not_after_ns", BigInteger, nullable=False),
    Column("revoked_ns", BigInteger),
    Index("ix_certificate_site_node", "site", "node"),
)
enrol_token = Table(
    "enrol_token",
    metadata,
    Column("secret_hash", String(64), primary_key=True),
    Column("site", String(63), nullable=False),
    Column("node", String(63), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("used_ns", BigInteger),
)
director = Table(
    "director",
    metadata,
    Column("site", String(63), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("signed_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
)
director_file = Table(
    "director_file",
    metadata,
    Column("site", String(63), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

# ---------------------------------------------------------------- data

tag = Table(
    "tag",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("site", String(63), nullable=False),
    Column("topic", String(1024), nullable=False),
    Column("type", String(10), nullable=False),
    Column("unit", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("low", Float),
    Column("high", Float),
    Column("instance", String(200), nullable=False),
    UniqueConstraint("site", "topic"),
)
stream = Table(
    "stream",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("site", String(63), nullable=False),
    Column("stream", String(200), nullable=False),
    Column("incarnation", String(64), nullable=False),
    Column("mark", BigInteger, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("chain", String(64), nullable=False),
    Column("gaps", BigInteger, nullable=False),
    Column("lost_samples", BigInteger, nullable=False),
    Column("bad_frames", BigInteger, nullable=False),
    Column("first_ns", BigInteger),
    Column("last_ns", BigInteger),
    Column("created_ns", BigInteger, nullable=False),
    Column("received_ns", BigInteger),  # when samples last arrived
    UniqueConstraint("site", "stream", "incarnation"),
)
stream_tag = Table(
    "stream_tag",
    metadata,
    Column("stream_id", RowId, ForeignKey("stream.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("from_seq", BigInteger, primary_key=True),  # the descriptor's; later descriptors may reuse a number
    Column("tag_id", RowId, ForeignKey("tag.id"), nullable=False),
    Index("ix_stream_tag_tag_id", "tag_id"),
)
block = Table(
    "block",
    metadata,
    Column("stream_id", RowId, ForeignKey("stream.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("ix_block_stream_id_last_ns", "stream_id", "last_ns", "first_ns"),
)
gap = Table(
    "gap",
    metadata,
    Column("stream_id", RowId, ForeignKey("stream.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Index("ix_gap_received_ns", "received_ns"),
)
quarantine = Table(
    "quarantine",
    metadata,
    Column("stream_id", RowId, ForeignKey("stream.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
last_value = Table(
    "last_value",
    metadata,
    Column("tag_id", RowId, ForeignKey("tag.id"), primary_key=True, autoincrement=False),
    Column("ts_ns", BigInteger, nullable=False),
    Column("value", Float),
    Column("text", Text),
    Column("quality", SmallInteger, nullable=False),
    Column("stream_id", RowId, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
)

# ---------------------------------------------------------------- fleets and releases

generation = Table(
    "generation",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("applied_ns", BigInteger, nullable=False),
    Column("applied_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("enterprise", Text, nullable=False),
    Column("documents", Text, nullable=False),  # JSON list, as sent
    Column("sources", Text, nullable=False),  # JSON list
)
desired = Table(
    "desired",
    metadata,
    Column("generation", BigInteger, ForeignKey("generation.number"), primary_key=True),
    Column("site", String(63), primary_key=True),
    Column("state", LargeBinary, nullable=False),  # manifests.model.DesiredState as JSON
)
release = Table(
    "release",
    metadata,
    Column("path", String(255), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("version", String(100), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),  # the exact signed bytes
    Column("published_ns", BigInteger, nullable=False),
    Column("listed", Boolean, nullable=False),  # in the newest catalog
)
catalog_file = Table(
    "catalog_file",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

# ---------------------------------------------------------------- rollouts

rollout = Table(
    "rollout",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("generation", BigInteger, ForeignKey("generation.number"), nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", String(60), nullable=False),
    Column("detail", Text, nullable=False),
    Column("since_ns", BigInteger, nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("started_by", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("ended_ns", BigInteger),
    Column("gate", Text, nullable=False),  # manifests.model.Gate as JSON
    Column("on_failure", String(10), nullable=False),
    Column("changes", Text, nullable=False),  # JSON list of ChangeView, as at the start
    Column("needs", Text, nullable=False, server_default="[]"),  # JSON list of the sides that must approve it
    Column("approvals", Text, nullable=False, server_default="[]"),  # JSON list of RolloutApproval
    Column("single_person", Boolean, nullable=False, server_default=false()),
)
rollout_wave = Table(
    "rollout_wave",
    metadata,
    Column("rollout_id", RowId, ForeignKey("rollout.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String(63), nullable=False),
    Column("max_concurrent", Integer, nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", String(60), nullable=False),
    Column("detail", Text, nullable=False),
    Column("since_ns", BigInteger, nullable=False),
)
rollout_site = Table(
    "rollout_site",
    metadata,
    Column("rollout_id", RowId, ForeignKey("rollout.id"), primary_key=True),
    Column("site", String(63), primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("phase", String(20), nullable=False),
    Column("reason", String(60), nullable=False),
    Column("detail", Text, nullable=False),
    Column("since_ns", BigInteger, nullable=False),
    Column("assigned", Boolean, nullable=False),
    Column("moving_ns", BigInteger, nullable=False),
    Column("counters", Text, nullable=False, server_default="{}"),  # JSON, as the soak began
)

# ---------------------------------------------------------------- events and access

event = Table(
    "event",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("site", String(63)),
    Column("node", String(63)),
    Column("severity", String(10), nullable=False),
    Column("kind", String(100), nullable=False),
    Column("subject", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("actor", Text),
    Index("ix_event_site_id", "site", "id"),
)
# Separate from ``event`` so that what was seen is known for ever, however long events themselves are kept.
event_seen = Table(
    "event_seen",
    metadata,
    Column("site", String(63), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("incarnation", String(64), primary_key=True),
    Column("seq", BigInteger, nullable=False),
)
# Only ever grows; the tree's nodes are its complete subtrees.
audit_entry = Table(
    "audit_entry",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("kind", String(100), nullable=False),
    Column("actor", Text),
    Column("site", String(63)),
    Column("entry", Text, nullable=False),
)
audit_node = Table(
    "audit_node",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
account = Table(
    "account",
    metadata,
    Column("user", String(100), primary_key=True),
    Column("password_hash", Text, nullable=False),  # empty: an identity provider knows the person
    Column("set_ns", BigInteger, nullable=False),
    Column("bindings", Text, nullable=False, server_default="[]"),  # people.permissions.Bindings as JSON
    Column("created_ns", BigInteger, nullable=False, server_default="0"),
    Column("disabled_ns", BigInteger),
    Column("deleted_ns", BigInteger),  # the row stays: a name is never given to somebody else
    Column("must_change", Boolean, nullable=False, server_default=false()),
    Column("totp_secret", Text),  # sealed with a key that is not in here
    Column("totp_confirmed", Boolean, nullable=False, server_default=false()),
    Column("totp_step", BigInteger, nullable=False, server_default="0"),  # of the last code used
    Column("identity", String(500)),  # issuer and subject at an identity provider
    Index("uq_account_identity", "identity", unique=True),
)
recovery_code = Table(
    "recovery_code",
    metadata,
    Column("code_hash", String(64), primary_key=True),
    Column("user", String(100), nullable=False),
)
session = Table(
    "session",
    metadata,
    Column("id_hash", String(64), primary_key=True),
    Column("user", String(100), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("used_ns", BigInteger, nullable=False),
)
api_token = Table(
    "api_token",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("user", String(100), nullable=False),
    Column("name", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("limits", Text),  # people.permissions.Bindings as JSON; null = as its owner
    Column("used_ns", BigInteger),
)
