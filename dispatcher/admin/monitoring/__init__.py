"""Watching the outbox from outside: what `dispatcher metrics` serves and `dispatcher health` answers."""
