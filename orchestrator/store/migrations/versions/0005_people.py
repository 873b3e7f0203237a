"""Give accounts roles, second factors and an end, and tokens a scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROLES = ("viewer", "operator", "ot-engineer", "it-engineer", "admin")
EVERY_ROLE = "[" + ",".join(f'{{"role":"{role}","sites":{{}}}}' for role in ROLES) + "]"
ACCOUNT: tuple[Callable[[], sa.Column[Any]], ...] = (
    lambda: sa.Column("bindings", sa.Text, nullable=False, server_default="[]"),
    lambda: sa.Column("created_ns", sa.BigInteger, nullable=False, server_default="0"),
    lambda: sa.Column("disabled_ns", sa.BigInteger),
    lambda: sa.Column("deleted_ns", sa.BigInteger),
    lambda: sa.Column("must_change", sa.Boolean, nullable=False, server_default=sa.false()),
    lambda: sa.Column("totp_secret", sa.Text),
    lambda: sa.Column("totp_confirmed", sa.Boolean, nullable=False, server_default=sa.false()),
    lambda: sa.Column("totp_step", sa.BigInteger, nullable=False, server_default="0"),
    lambda: sa.Column("identity", sa.String(500)),
)
TOKEN: tuple[Callable[[], sa.Column[Any]], ...] = (
    lambda: sa.Column("limits", sa.Text),
    lambda: sa.Column("used_ns", sa.BigInteger),
)


def upgrade() -> None:
    for column in ACCOUNT:
        op.add_column("account", column())
    for column in TOKEN:
        op.add_column("api_token", column())
    op.execute(sa.text("UPDATE account SET bindings = :roles, created_ns = set_ns").bindparams(roles=EVERY_ROLE))
    op.create_index("uq_account_identity", "account", ["identity"], unique=True)
    op.create_table(
        "recovery_code",
        sa.Column("code_hash", sa.String(64), primary_key=True),
        sa.Column("user", sa.String(100), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("recovery_code")
    op.drop_index("uq_account_identity", "account")
    for column in TOKEN:
        op.drop_column("api_token", column().name)
    for column in ACCOUNT:
        op.drop_column("account", column().name)
