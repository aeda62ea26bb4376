"""What people decide of the views of an item, and when they asked for a group to be made"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# No batches: they make the table anew on SQLite, and dropping the old one would take all tasks with it.


def upgrade() -> None:
    op.add_column("items", sa.Column("decisions", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("items", sa.Column("requested_at", sa.Float(), nullable=False, server_default="0"))
    op.drop_column("items", "requested")


def downgrade() -> None:
    op.add_column("items", sa.Column("requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_column("items", "requested_at")
    op.drop_column("items", "decisions")
