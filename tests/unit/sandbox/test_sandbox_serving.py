"""The sandbox as others use it: its control endpoints and page, as a process with signals, as a pytest fixture."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from dispatcher.errors import ConfigurationError
from dispatcher.sandbox import ACCESS_TOKEN, FaultKind, Options, Sandbox
from tests.unit.sandbox.shop import Shop, order

pytest_plugins = ["pytester"]

SERVE = """
import sys
from dispatcher.sandbox import Options, serve
serve(port=0, options=Options(account_per_minute=1), announce=lambda sandbox: print(sandbox.url, flush=True))
print("stopped")
"""


def control(shop: Shop, path: str, **body: Any) -> Any:
    answer = shop.session.post(f"{shop.sandbox.url}/sandbox/{path}", json=body, timeout=5)
    assert answer.status_code == 200, answer.text
    return answer.json()


def look(shop: Shop, path: str) -> Any:
    return shop.session.get(f"{shop.sandbox.url}/sandbox/{path}", timeout=5).json()


def test_a_process_elsewhere_sees_and_changes_everything_over_http(shop: Shop) -> None:
    control(shop, "switches", account_per_minute="2", legacy="accept")
    control(shop, "faults", kind="status", status=503, key_contains="B")
    control(shop, "accounts", account="loja", account_per_minute=9)
    assert [shop.send(order(key)).status_code for key in ("A", "B", "C")] == [200, 503, 429]
    assert look(shop, "counts")["requests"] == {"POST /platform/events": {"200": 1, "429": 1, "503": 1}}
    assert look(shop, "violations")["total"] == 1
    (arrival,) = look(shop, "arrivals?key_field=cf_order_id&key=A&accepted=true")["arrivals"]
    assert (arrival["event_type"], arrival["status"], arrival["key"]) == ("ORDER_PLACED", 200, "A")
    assert look(shop, "health")["accounts"] == ["default", "loja"]
    control(shop, "clock", advance_seconds=60)
    assert shop.send(order()).status_code == 200
    control(shop, "others", events=1)
    assert shop.send(order()).status_code == 429
    control(shop, "tokens/revoke")
    assert shop.send(order()).status_code == 401
    control(shop, "tokens/restore")
    control(shop, "tokens/expire")
    assert "WWW-Authenticate" in shop.send(order()).headers
    assert control(shop, "codes")["code"].startswith("sandbox-code-")
    control(shop, "faults/schedule", seed=1, rates={"empty": 1.0})
    assert shop.send(order(), shop.refresh().json()["access_token"]).status_code == 429
    shop.session.delete(f"{shop.sandbox.url}/sandbox/faults", timeout=5)
    control(shop, "reset")
    assert look(shop, "arrivals") == {"total": 0, "arrivals": []}


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("switches", {"legcy": "reject"}, "legcy"),
        ("switches", {"legacy": "maybe"}, "accept, reject"),
        ("switches", {"account_per_minute": -1}, "account_per_minute"),
        ("faults", {"kind": "boom"}, "accept_then_drop"),
        ("accounts", {"account": "a", "color": "red"}, "color"),
        ("clock", {"advance_seconds": -1}, "forward"),
        ("clock", {}, "advance_seconds"),
    ],
)
def test_a_mistaken_control_is_refused_with_what_is_wrong(
    shop: Shop, path: str, body: dict[str, Any], named: str
) -> None:
    answer = shop.session.post(f"{shop.sandbox.url}/sandbox/{path}", json=body, timeout=5)
    assert answer.status_code == 400
    assert named in answer.json()["problem"]


def test_the_index_lists_every_endpoint_with_its_meaning(shop: Shop) -> None:
    listed = look(shop, "")
    assert all(listed.values())
    assert "POST /sandbox/faults" in listed


def test_the_page_shows_arrivals_and_escapes_what_it_was_sent(shop: Shop) -> None:
    shop.send(order("<script>alert(1)</script>"))
    shop.sandbox.break_with(FaultKind.EMPTY, times=None)
    page = shop.session.get(shop.sandbox.url, timeout=5)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script>" not in page.text
    assert "no limit exceeded" in page.text
    assert "until cleared" in page.text


@pytest.mark.parametrize(("switch", "status"), [("loopback", 403), ("anywhere", 200)])
def test_only_this_machine_may_control_unless_switched(
    monkeypatch: pytest.MonkeyPatch, switch: str, status: int
) -> None:
    with Sandbox(options=Options().switched({"control": switch})) as sandbox:
        monkeypatch.setattr("dispatcher.sandbox.server.LOCAL", frozenset())
        for path in ("/", "/sandbox/health"):
            assert requests.get(sandbox.url + path, timeout=5).status_code == status


def test_a_taken_port_is_named_with_a_way_out(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=f"{port}.*--port"):
        Sandbox(port=port).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_gracefully_on_a_signal(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    url = process.stdout.readline().strip()
    assert requests.get(f"{url}/sandbox/switches", timeout=5).json()["account_per_minute"] == 1
    process.send_signal(number)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, errors) == (0, "stopped\n", "")


def test_importing_dispatcher_imports_neither_the_sandbox_nor_pytest() -> None:
    probe = "import sys, dispatcher; print([n for n in sys.modules if n.startswith(('dispatcher.sandbox', 'pytest'))])"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_fixture_gives_each_test_a_sandbox_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import requests
        pytest_plugins = ["dispatcher.sandbox.pytest_plugin"]

        def test_one(rd_sandbox):
            assert requests.get(rd_sandbox.url + "/sandbox/health", timeout=5).json()["ready"]
            assert requests.get(rd_sandbox.url + "/marketing/account_info", timeout=5).status_code == 401
            assert len(rd_sandbox.arrivals()) == 1

        def test_two(rd_sandbox):
            assert rd_sandbox.arrivals() == []
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_sixty_four_connections_at_once_are_served(sandbox: Sandbox) -> None:
    sandbox.switch(account_per_minute=0, lead_per_day=0)
    together = threading.Barrier(64)
    statuses: list[int] = []

    def send(number: int) -> None:
        shop = Shop(sandbox)
        together.wait()
        statuses.extend(shop.send(order(f"{number}-{n}", f"{number}@x.example")).status_code for n in range(3))
        shop.session.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 192
    assert sandbox.violations().lead_overlaps == 0
    assert sorted(one.number for one in sandbox.arrivals()) == list(range(1, 193))


def test_the_command_plays_a_seeded_schedule_and_reports_at_the_end() -> None:
    command = [
        str(Path(sys.executable).with_name("dispatcher")), "sandbox", "--port", "0", "--seed", "7", "--fault", "html=1",
        "--set", "account_per_minute=2",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    said = ""
    while "seed 7" not in said:
        line = process.stdout.readline()
        assert line, process.communicate()
        said += line
    url = re.search(r"listens at (\S+)", said)
    assert url
    assert "export DISPATCHER_RD_BASE_URL=" in said
    bearer = {"Authorization": f"Bearer {ACCESS_TOKEN}"}
    statuses = [
        requests.post(f"{url[1]}/platform/events", json=order(n), headers=bearer, timeout=5).status_code
        for n in range(3)
    ]
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    assert (statuses, process.returncode, errors) == ([502, 502, 429], 0, "")
    assert out == "0 events accepted, 1 above a limit, 0 times two events of one lead at once\n"
