# noqa: INP001  # a script of CI, not a package
"""Asks an advisory service (OSV, by pip-audit) about every locked package: docs/adr/0024.

A known vulnerability fails. A service that does not answer says nothing about the packages: that is printed and does
not fail. Anything else that goes wrong is ours, and fails.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

ACCEPTED: dict[str, str] = {}
"""Advisories that do not concern us, each with the reason. The audit passes over them, and says so."""

NOT_DONE = "NOT AUDITED"
"""How the line begins that says so; `.ci/run` repeats it at its end."""

_SILENT = re.compile(r"(ConnectionError|ConnectTimeout|ReadTimeout|Could not connect|ServiceError|HTTPError)")
_OPTIONS = (
    "--disable-pip",
    "--require-hashes",
    "--vulnerability-service=osv",
    "--format=json",
    "--progress-spinner=off",
    "--aliases=on",
)


def main(arguments: Sequence[str]) -> int:
    """Audit requirements files; further options go to pip-audit. Answers the exit code: 1 is a known vulnerability."""
    files = [f"--requirement={argument}" for argument in arguments if not argument.startswith("-")]
    options = [argument for argument in arguments if argument.startswith("-")]
    passed_over = [f"--ignore-vuln={name}" for name in ACCEPTED]
    command = [sys.executable, "-m", "pip_audit", *_OPTIONS, *passed_over, *options, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own tool and files
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return _without_an_answer(done.stderr)
    return _judge(packages)


def _without_an_answer(errors: str) -> int:
    last = (errors.strip().splitlines() or ["pip-audit said nothing"])[-1]
    if _SILENT.search(last):
        _say(f"{NOT_DONE}: the advisory service does not answer, so nothing is known: {last[:300]}")
        return 0
    _say(f"The audit itself failed: {last[:300]}")
    return 2


def _judge(packages: Sequence[dict[str, object]]) -> int:
    skipped = sorted({str(package["name"]) for package in packages if "skip_reason" in package})
    if skipped:
        _say(f"{NOT_DONE}: {len(skipped)} of {len(packages)} packages: {', '.join(skipped)}")
    found = {
        f"{package['name']} {package['version']}: {advisory['id']}"
        + (f", fixed in {', '.join(advisory['fix_versions'])}" if advisory["fix_versions"] else ", no fix yet")
        for package in packages
        for advisory in package.get("vulns", [])  # type: ignore[attr-defined]  # pip-audit's own JSON
    }
    for line in sorted(found):
        _say(f"VULNERABLE: {line}")
    for name, reason in ACCEPTED.items():
        _say(f"Passed over: {name}: {reason}")
    if not found and not skipped:
        _say(f"No known vulnerability in {len(packages)} locked packages")
    return 1 if found else 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - for whoever reads the run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
