"""`prune`: events whose retention has passed leave the outbox."""

from __future__ import annotations

import typer

from dispatcher.admin.options import By, Json
from dispatcher.admin.progress import Progress
from dispatcher.admin.root import opened
from dispatcher.admin.terminal import note, print_json
from dispatcher.outbox.operation_rows import Kind, Signature, record
from dispatcher.outbox.prune import Pruned, Pruning, last_event, walk
from dispatcher.outbox.transaction import in_transaction, reading


def prune(by: By, *, as_json: Json = False) -> None:
    """Delete events that ended longer ago than the RETAIN settings keep them, with all that belongs to them.

    Their keys stay recognised: enqueuing the same fact again sends nothing. Workers prune a little with every sweep, so
    this is for a backlog, such as after the settings were changed. It works in short transactions beside everything
    else, rests as long as it works, and may be ended and started again at any time.
    """
    with opened() as root:
        if root.retention.shortest is None and root.retention.operations is None:
            note("nothing is pruned: every DISPATCHER_RETAIN_…_DAYS is 0")
        pruning, done = Pruning(root.retention), Pruned()
        progress = Progress(root.clock, "row", reading(root.engine, last_event))
        for step in walk(root.engine, pruning, root.clock):
            done.add(step)
            progress.tell(pruning.after, f", {done.removed} pruned")
        progress.end()
        counts = {"pruned": done.removed, "discarded": done.discarded, "operations": done.operations}
        in_transaction(root.engine, lambda connection: record(connection, Kind.PRUNE, Signature(by), counts=counts))
    if as_json:
        print_json(
            {"pruned": done.removed, "discarded": done.discarded, "operations": done.operations, "seen": done.seen}
        )
        return
    typer.echo(f"pruned {done.removed}")
    if done.discarded:
        note(f"{done.discarded} dead letters that nobody had ended in time were discarded")
