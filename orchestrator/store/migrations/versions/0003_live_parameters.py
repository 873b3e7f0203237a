"""Keep live parameters per instance, count a site's revisions, and remember the counters a soak began with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parameter",
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("instance", sa.String(63), nullable=False),
        sa.Column("name", sa.String(1000), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("set_ns", sa.BigInteger, nullable=False),
        sa.Column("set_by", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("site", "instance", "name", name="pk_parameter"),
    )
    op.add_column("site", sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("rollout_site", sa.Column("counters", sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("rollout_site", "counters")
    op.drop_column("site", "revision")
    op.drop_table("parameter")
