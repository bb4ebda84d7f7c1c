"""What a worker takes from the broker: JSON, for one task of ours. Opens no connection.

What it makes of the words is in `test_bells_fuzzed.py`. In a process of its own: Celery knows each task's name once
in a process.
"""

from __future__ import annotations

import json
import subprocess
import sys

ASK = """
import json
from dispatcher.settings import load_settings
from workers.app import make_app
app = make_app(load_settings({"DISPATCHER_BROKER_URL": "redis://127.0.0.1:9/0"}, None))
ours = [name for name in app.tasks if not name.startswith("celery.")]
print(json.dumps([list(app.conf.accept_content), app.conf.task_serializer, ours]))
"""


def test_a_worker_takes_json_and_nothing_else() -> None:
    said = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == [["json"], "json", ["dispatcher.drain"]]
