"""What every request's head holds, whatever sends it."""

from __future__ import annotations

HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "rdstation-dispatcher",
}

UNFIT_TOKEN = "the access token holds characters that no token has; log the account in again"  # noqa: S105 - a sentence


def fits_header(token: str) -> bool:
    """True if a token can stand in a header; one that cannot might add headers of its own."""
    return token.isascii() and token.isprintable() and " " not in token and token != ""
