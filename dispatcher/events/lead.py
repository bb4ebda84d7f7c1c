"""The lead: the customer behind an event, known by e-mail and stored only as a keyed hash."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache


def normalise_email(email: str) -> str:
    """The form in which two spellings of one address are the same lead: trimmed and lower-cased."""
    return email.strip().lower()


def lead_hash(email: str, secret: bytes) -> str:
    """32 hex characters that name the lead without telling who it is: HMAC-SHA256, cut to 128 bits."""
    keyed = _keyed(secret).copy()
    keyed.update(normalise_email(email).encode("utf-8", "surrogatepass"))
    return keyed.hexdigest()[:32]


@lru_cache(maxsize=8)  # an outbox has one; OpenSSL takes longer to set the key up than to hash an address
def _keyed(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod=hashlib.sha256)
