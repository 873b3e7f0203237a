"""Keep who must approve a rollout, and who did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rollout", sa.Column("needs", sa.Text, nullable=False, server_default="[]"))
    op.add_column("rollout", sa.Column("approvals", sa.Text, nullable=False, server_default="[]"))
    op.add_column("rollout", sa.Column("single_person", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    for name in ("single_person", "approvals", "needs"):
        op.drop_column("rollout", name)
