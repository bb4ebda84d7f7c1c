"""What `check` looks at. A finding has a stable code, a cause in one sentence and a fix; docs name the codes."""

from dispatcher.admin.checks.examination import examine
from dispatcher.admin.checks.finding import Finding, Level

__all__ = ["Finding", "Level", "examine"]
