"""${message}

Rolling deploys: the previous release's workers and producers run against this schema while it is rolled out, and may
come back. Add columns as nullable or with a server default; drop or tighten only what the previous release no longer
uses; build indexes concurrently where the table may be large.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
