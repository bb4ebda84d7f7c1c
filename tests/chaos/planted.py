"""Workers with bugs planted on purpose, for a test of the test: `python -m tests.chaos.planted celery-arguments…`.

They take no notice of limits, and call it `unavailable` when a request left and no answer came.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from celery.__main__ import main

from dispatcher.outbox import claim as claiming
from dispatcher.outbox.permits import Quota
from dispatcher.policy import verdict
from dispatcher.policy.verdict import Judgement
from dispatcher.policy.verdicts import Verdict
from workers import attempts, drain

_claim, _judge = claiming.claim, verdict.judge


def _without_limits(connection: Any, rules: Any, **options: Any) -> Any:
    return _claim(connection, replace(rules, quota=Quota(0, 0)), **options)


def _sure_of_itself(*arguments: Any, **options: Any) -> Judgement:
    judgement = _judge(*arguments, **options)
    return judgement._replace(verdict=Verdict.UNAVAILABLE) if judgement.verdict is Verdict.UNCERTAIN else judgement


if __name__ == "__main__":
    with patch.object(drain, "claim", _without_limits), patch.object(attempts, "judge", _sure_of_itself):
        sys.argv = ["celery", *sys.argv[1:]]
        main()
