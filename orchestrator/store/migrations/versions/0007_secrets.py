"""Keep secrets of instances, sealed to the node that runs them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "secret",
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("instance", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("set_ns", sa.BigInteger, nullable=False),
        sa.Column("set_by", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("site", "instance", "name", name="pk_secret"),
    )


def downgrade() -> None:
    op.drop_table("secret")
