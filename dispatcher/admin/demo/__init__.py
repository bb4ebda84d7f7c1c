"""`dispatcher demo`: the main job, told step by step, on real parts.

    story.py      what happens, in order, and what is claimed of it
    retirement.py the act in which RD Station takes the old types no longer
    shop.py       a small shop that uses the library as any shop would
    stage.py      the directory, the sandbox, the settings and the worker
    worker.py     the Celery worker, as a child process that is never left behind
    evidence.py   both sides of the delivery: the outbox, and what arrived at the sandbox
    teller.py     the printed page

A step that claims something checks it against the outbox and the sandbox; a claim that does not hold ends the demo.
"""
