"""Find the gaps of the last hour without reading all of them."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_gap_received_ns", "gap", ["received_ns"])


def downgrade() -> None:
    op.drop_index("ix_gap_received_ns", "gap")
