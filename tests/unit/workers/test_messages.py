"""What a worker takes from the broker: JSON, and a task that does nothing but name an account. Opens no connection.

In a process of its own: Celery knows each task's name once in a process.
"""

from __future__ import annotations

import json
import subprocess
import sys

ASK = """
import inspect, json
from dispatcher.settings import load_settings
from workers.app import make_app
app = make_app(load_settings({"DISPATCHER_BROKER_URL": "redis://127.0.0.1:9/0"}, None))
tasks = {name: list(inspect.signature(task.run).parameters) for name, task in app.tasks.items()}
print(json.dumps([list(app.conf.accept_content), app.conf.task_serializer, tasks["dispatcher.drain"]]))
"""


def test_a_worker_takes_json_and_nothing_else() -> None:
    said = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == [["json"], "json", ["account"]]
