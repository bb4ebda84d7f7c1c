"""A client of the sandbox that sees every answer as it is, the events it sends, and a clock that stands still."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import requests

from dispatcher.sandbox import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Sandbox


class StoppedClock:
    def now(self) -> datetime:
        return datetime(2026, 11, 22, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return 1_000.0

    def wait(self, event: threading.Event, seconds: float) -> bool:  # noqa: ARG002  # Clock's signature
        return event.wait(0)


class Shop:
    """A client with one keep-alive connection that sees every answer as it is."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False

    def post(self, path: str, json: Any, token: str | None = ACCESS_TOKEN, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.session.post(
            self.sandbox.url + path, json=json, headers=headers, timeout=5, allow_redirects=False, **more
        )

    def send(self, event: Any, token: str | None = ACCESS_TOKEN) -> requests.Response:
        return self.post("/platform/events", event, token)

    def info(self, token: str = ACCESS_TOKEN) -> requests.Response:
        return self.session.get(
            f"{self.sandbox.url}/marketing/account_info", headers={"Authorization": f"Bearer {token}"}, timeout=5
        )

    def refresh(self, refresh_token: str = REFRESH_TOKEN, **more: str) -> requests.Response:
        body = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "refresh_token": refresh_token, **more}
        return self.post("/auth/token", body, token=None)


def order(number: object = "1001", email: str | None = "ana@cliente.example", **changes: Any) -> dict[str, Any]:
    payload = {
        "email": email,
        "cf_order_id": str(number),
        "cf_order_total_items": 5,
        "cf_order_status": "paid",
        "cf_order_payment_method": "Credit Card",
        "cf_order_payment_amount": 200.5,
        **changes,
    }
    return {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": payload}


def typed(event_type: str, **payload: Any) -> dict[str, Any]:
    return {
        "event_type": event_type,
        "event_family": "CDP",
        "payload": {"email": "ana@cliente.example", **payload},
    }
