"""`dispatcher metrics` for a test: started as an operator starts it, and scraped over HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.fleet import Fleet


@dataclass(frozen=True)
class Exporter:
    """One that runs."""

    url: str

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(self.url + path, timeout=30) as answer:  # noqa: S310 - our own server
                return answer.status, answer.read().decode()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def values(self, name: str, **labels: str) -> list[float]:
        """The samples of this name with these labels."""
        status, text = self.get("/metrics")
        assert status == 200
        return [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]


@contextmanager
def exporter(fleet: Fleet, **settings: object) -> Iterator[Exporter]:
    """Run `dispatcher metrics` with the fleet's settings, on a free port."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("dispatcher")), "metrics", "--port", "0"],
        env=fleet.environment(**settings),
        cwd=fleet.directory,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline().split()
        assert first[:2] == ["metrics", "at"], first
        yield Exporter(first[2].removesuffix("/metrics,"))
    finally:
        process.terminate()
        process.communicate()
