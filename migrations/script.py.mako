"""${message}

Rolling deploys: the previous release's workers and producers run against this schema while it is rolled out, and may
come back (docs/operations.md, "Upgrading without a stop"). So `upgrade` only expands:

- a column is nullable or has a server default; an index is built concurrently where the table may be large;
- nothing is dropped, renamed, made NOT NULL or given a narrower type or CHECK: that is a migration of the release
  after the one that has stopped using it, with `contracts = "<revision that made it unused>"` at the top of its file;
- an existing row means the same to the previous release before and after.

`downgrade` keeps every row and column that the revision below knows. tests/contract/test_rolling_rule.py and
test_migration_steps.py hold the file to this, tests/acceptance/test_upgrade_under_load.py to the whole.
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
