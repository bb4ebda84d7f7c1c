"""The dependency audit: a known vulnerability fails, a silent service is said aloud, and nothing passes in silence.

Real: `.ci/audit.py` and pip-audit. Doubled: OSV, by a server on this machine that speaks its protocol.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
AUDIT = ROOT / ".ci" / "audit.py"
NOWHERE = "http://127.0.0.1:9/v1/query"  # the port of `discard`, where nobody listens

ADVISORY = {
    "id": "PYSEC-0000-1",
    "summary": "made up",
    "details": "made up",
    "affected": [
        {
            "package": {"name": "shaky", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    """Knows one vulnerable package; the class's `status` is what it answers with."""

    status = 200

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = asked["package"]["name"] == "shaky" and asked["version"] == "1.0"
        body = json.dumps({"vulns": [ADVISORY]} if known else {}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not into the test's output."""


@pytest.fixture
def osv() -> Iterator[str]:
    Osv.status = 200
    server = ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    server.shutdown()
    server.server_close()
    thread.join()


def audit(tmp_path: Path, osv: str, *locked: str) -> tuple[int, str]:
    file = tmp_path / "locked.txt"
    file.write_text("".join(f"{line} --hash=sha256:{'0' * 64}\n" for line in locked), encoding="utf-8")
    command = [sys.executable, str(AUDIT), f"--osv-url={osv}", f"--cache-dir={tmp_path}", "--timeout=5", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_known_vulnerability_fails_and_is_named_with_its_fix(tmp_path: Path, osv: str) -> None:
    code, said = audit(tmp_path, osv, "sound==2.0", "shaky==1.0")
    assert (code, said.strip()) == (1, "VULNERABLE: shaky 1.0: PYSEC-0000-1, fixed in 1.1")


def test_without_a_known_vulnerability_it_passes_and_says_for_how_many(tmp_path: Path, osv: str) -> None:
    code, said = audit(tmp_path, osv, "sound==2.0", "shaky==1.1")
    assert (code, said.strip()) == (0, "No known vulnerability in 2 locked packages")


def test_a_service_that_cannot_be_reached_is_said_aloud_and_does_not_fail(tmp_path: Path) -> None:
    code, said = audit(tmp_path, NOWHERE, "sound==2.0")
    assert code == 0
    assert said.startswith("NOT AUDITED: the advisory service does not answer")


def test_a_service_that_breaks_is_said_aloud_and_does_not_fail(tmp_path: Path, osv: str) -> None:
    Osv.status = 503
    code, said = audit(tmp_path, osv, "sound==2.0")
    assert code == 0
    assert said.startswith("NOT AUDITED")


def test_an_audit_that_fails_by_itself_is_not_taken_for_silence(tmp_path: Path, osv: str) -> None:
    code, said = audit(tmp_path, osv, "no pin at all")
    assert code == 2
    assert said.startswith("The audit itself failed")


def test_ci_audits_every_lock_file_and_repeats_what_was_not_audited() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert ".ci/audit.py requirements/*.txt" in makefile
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make audit" in run
    assert "NOT AUDITED" in run


def test_packages_that_were_not_looked_up_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(AUDIT))
    answered = [{"name": "sound", "version": "2.0", "vulns": []}, {"name": "odd", "skip_reason": "no version"}]
    assert script["_judge"](answered) == 0
    assert capsys.readouterr().out == "NOT AUDITED: 1 of 2 packages: odd\n"
