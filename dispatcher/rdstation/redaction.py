"""Nothing secret or personal leaves this package in a text: every sentence and excerpt passes through here.

RD Station's own 429 body names the customer's e-mail (rdstation-api.md §6), and a proxy may echo a request whole.
Patterns catch what looks private; the values in use (the event's own e-mail, the tokens) are also removed literally,
in the encodings in which an answer may echo them. Removing too much is fine, too little is not.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

SENTENCE_CHARS = 300
EXCERPT_CHARS = 1_000

_WINDOW = 8_192
_EDGE = 512
"""What is cut off the end of a long text: a value that the window cuts in half is no longer recognised there."""
_SHORTEST = 3
"""Shorter literals would blot out half of any text."""

_AT = r"(?:@|%(?:25){0,3}40|&\#(?:64|x40);|&commat;|\\{1,4}u0040|\uff20|\ufe6b)"
_WORD = r"[^\s\"'<>(),;:=&?/\[\]{}|@\uff20\ufe6b]"
# Tried only where a word starts, so the time stays linear in the length of the text.
_EMAIL = re.compile(rf"(?:\"[^\"\s]{{1,64}}\"|(?<!{_WORD}){_WORD}+?){_AT}{_WORD}+", re.IGNORECASE)
_JWT = re.compile(r"eyJ[\w-]{4,}(?:\.[\w-]*)*")
_BEARER = re.compile(r"\b(bearer|basic)(\s+|%20|\+)[^\s\"',;&<>]+", re.IGNORECASE)
_NAMED = re.compile(
    r"\b((?:api|access|refresh|client)[_-]?(?:key|token|secret)|token|secret|password|authorization)"
    r"((?:\\*[\"'])?\s*(?:[=:]|%3[ad])\s*(?:\\*[\"'])?)[^\s\"'\\&,;}<>]+",
    re.IGNORECASE,
)
_PHONE = re.compile(r"(?<![\w.])(?:\+|%2b)?\(?\d(?:[\s().-]{0,3}\d){8,17}(?![\w.]*[a-z])", re.IGNORECASE)
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Redactor:
    """Removes private data from texts.

    Args:
        private: Values that must not appear, whatever they look like.
    """

    def __init__(self, private: Iterable[str] = ()) -> None:
        forms = {form for value in private for form in _forms(value)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._literals = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if longest_first else None

    def text(self, text: str, cap: int = SENTENCE_CHARS) -> str:
        """The text without private data, without what a database cannot store, and at most `cap` characters long."""
        windowed = len(text) > _WINDOW
        clean = _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text[:_WINDOW])
        if self._literals is not None:
            clean = self._literals.sub("[private]", clean)
        clean = _JWT.sub("[token]", clean)
        clean = _BEARER.sub(r"\1 [token]", clean)
        clean = _NAMED.sub(r"\1\2[secret]", clean)
        clean = _EMAIL.sub("[email]", clean)
        clean = _PHONE.sub("[phone]", clean)
        if windowed:
            clean = clean[:-_EDGE]
        return clean if len(clean) <= cap else clean[: cap - 1] + "…"

    def excerpt(self, body: bytes) -> str | None:
        """The start of a response body, fit to be stored; None if there is nothing to show."""
        return self.text(body[: 4 * _WINDOW].decode("utf-8", "replace").strip(), EXCERPT_CHARS) or None


def _forms(value: str) -> Iterable[str]:
    """The spellings in which an answer may echo a value."""
    value = _UNSTORABLE.sub("", value).strip()
    if len(value) < _SHORTEST:
        return
    for kind in ("NFC", "NFD"):
        normal = unicodedata.normalize(kind, value)
        escaped = json.dumps(normal)[1:-1]
        encoded = quote(normal, safe="")
        yield from (normal, normal.casefold(), escaped, escaped.replace("/", "\\/"))
        yield from (encoded, quote(normal), quote_plus(normal), quote(encoded, safe=""), html.escape(normal))
