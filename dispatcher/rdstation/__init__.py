"""The only package that knows HTTP: how an event reaches RD Station, and what came of it, as facts.

`client.Client.send` is the whole path of one event. Beneath it: `events_api` (the event endpoint) and `oauth` (the
token endpoint) speak RD Station's language over a `transport.Transport`; `requests_transport` is the one there is.
`access_tokens` keeps tokens fresh; `error_bodies`, `limits` and `redaction` turn answers into facts fit to be stored.
"""
