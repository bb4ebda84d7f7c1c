"""Who takes part in a drain: the bare client, ourselves, and the peers of an extra."""
