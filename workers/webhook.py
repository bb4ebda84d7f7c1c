"""Tells a notice to the webhook of the settings: one short signed POST, without redirects. Knows no database.

It is no request to RD Station, whose HTTP only `dispatcher/rdstation` knows; no other file of the workers has a client.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import requests
from pydantic import SecretStr

from dispatcher.clock import Clock
from dispatcher.outbox.notice_rows import NoticeRow

SIGNATURE = "X-Dispatcher-Signature"
_CONNECT_SECONDS, _READ_SECONDS = 3.0, 5.0


class Webhook:
    """One address that hears notices.

    Args:
        url: Its path may be a secret; it shows in no log and no error.
        secret: Signs each body; None: no signature.
        clock: For the moment in the signature.
    """

    def __init__(self, url: SecretStr, secret: SecretStr | None, clock: Clock) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock

    def tell(self, notice: NoticeRow) -> str | None:
        """Send it; answers why it was not taken, without the address, or None if it was. Raises nothing."""
        body = json.dumps(document(notice)).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret, body, int(self._clock.now().timestamp()))
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxies and no .netrc of whoever started us
                answer = session.post(
                    self._url.get_secret_value(),
                    data=body,
                    headers=headers,
                    timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                    allow_redirects=False,
                    stream=True,  # the body is not read: however long it is, nobody asked for it
                )
        except requests.RequestException as error:
            return type(error).__name__
        return None if answer.ok and not answer.is_redirect else f"it answered {answer.status_code}"


def document(notice: NoticeRow) -> dict[str, Any]:
    """What is sent. `text` is there for chat tools that take just that."""
    about = " of ".join(f"{name!r}" for name in (notice.subject, notice.account) if name)
    what = f"{notice.kind} {notice.state}{f' for {about}' if about else ''}"
    return {
        "notice": notice.kind,
        "state": notice.state,
        "account": notice.account,
        "subject": notice.subject,
        "detail": notice.detail,
        "raised_at": notice.raised_at.isoformat(),
        "resolved_at": notice.resolved_at.isoformat() if notice.resolved_at else None,
        "text": f"rdstation-dispatcher: {what}: {notice.detail}",
    }


def signature(secret: SecretStr, body: bytes, moment: int) -> str:
    """`t=…,v1=…`: the moment, and HMAC-SHA256 in hex of the moment, a full stop and the body."""
    signed = hmac.new(secret.get_secret_value().encode(), f"{moment}.".encode() + body, hashlib.sha256)
    return f"t={moment},v1={signed.hexdigest()}"
