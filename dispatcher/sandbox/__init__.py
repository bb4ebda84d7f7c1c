"""A faithful local RD Station, for demos, tests and the shop's own tests.

It plays the provider as rdstation-api.md describes it, keeps its own windows and its own validation table (so that it
catches our bugs instead of sharing them), and fails on demand. Three ways in: `with Sandbox() as sandbox:` in a test,
the fixture of `dispatcher.sandbox.pytest_plugin`, and `serve(...)` behind `dispatcher sandbox --port N`.

    sandbox.py    what a user holds: start, stop, look, switch, break
    server.py     sockets and bytes
    provider.py   a request becomes an answer: routes, faults, recording
    auth.py events.py answers.py rules.py    RD Station's endpoints, bodies and payload rules
    tokens.py windows.py faults.py recorder.py clock.py options.py    the state behind them
    control.py page.py    `/sandbox/…` and the page for people
"""

from dispatcher.sandbox.faults import Fault, FaultKind, FaultSchedule, faults_schedule
from dispatcher.sandbox.options import Options
from dispatcher.sandbox.recorder import Arrival
from dispatcher.sandbox.sandbox import Sandbox
from dispatcher.sandbox.serving import serve
from dispatcher.sandbox.tokens import (
    ACCESS_TOKEN,
    API_KEY,
    CLIENT_ID,
    CLIENT_SECRET,
    REFRESH_TOKEN,
    AccountSpec,
)
from dispatcher.sandbox.windows import Violations, WindowReport

__all__ = [
    "ACCESS_TOKEN",
    "API_KEY",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "REFRESH_TOKEN",
    "AccountSpec",
    "Arrival",
    "Fault",
    "FaultKind",
    "FaultSchedule",
    "Options",
    "Sandbox",
    "Violations",
    "WindowReport",
    "faults_schedule",
    "serve",
]
