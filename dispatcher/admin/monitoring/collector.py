"""From a reading to Prometheus' exposition. The only file that knows `prometheus_client` (the extra `metrics`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dispatcher.admin.monitoring.gauges import GAUGES, Reading, Sample, samples
from dispatcher.meters import MEASURES, Counts, Measure
from dispatcher.policy.verdicts import Verdict

PREFIX = "dispatcher_"


class OutboxCollector(Collector):
    """Collects from the outbox at each scrape.

    Args:
        read: Takes a reading; None: that was not possible.
        standing: Whether the database answers, and whether its tables are of this release.
        at_most: Accounts listed by name.
    """

    def __init__(
        self,
        read: Callable[[], tuple[Reading, Counts] | None],
        standing: Callable[[], tuple[bool, bool]],
        *,
        at_most: int,
    ) -> None:
        self._read = read
        self._standing = standing
        self._at_most = at_most

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        answers, current = self._standing()
        found = self._read() if current else None
        yield _gauge("schema_current", [Sample("schema_current", int(current))])
        yield _gauge("database_up", [Sample("database_up", int(answers and (found is not None or not current)))])
        if found is not None:
            reading, counts = found
            yield from _gauges(samples(reading, at_most=self._at_most))
            yield from _counted(counts)


def exposition(collector: Collector) -> bytes:
    """The text of one scrape."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


def _gauges(found: Iterable[Sample]) -> Iterator[Metric]:
    by_name: dict[str, list[Sample]] = defaultdict(list)
    for sample in found:
        by_name[sample.name].append(sample)
    for name, group in by_name.items():
        yield _gauge(name, group)


def _gauge(name: str, group: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, GAUGES[name].meaning, labels=GAUGES[name].labels)
    for sample in group:
        family.add_metric(sample.labels, sample.value)
    return family


def _counted(counts: Counts) -> Iterator[Metric]:
    for name, measure in MEASURES.items():
        yield _histogram(name, measure, counts) if measure.buckets else _counter(name, measure, counts)


def _counter(name: str, measure: Measure, counts: Counts) -> Metric:
    """Known values begin at 0, so that the first of its kind is an increase and no new series."""
    family = CounterMetricFamily(PREFIX + name, measure.meaning, labels=[measure.label] if measure.label else [])
    known = [verdict.value for verdict in Verdict] if measure.label == "verdict" else measure.values
    found = {labels.partition("=")[2]: value for (counted, labels), value in counts.items() if counted == name}
    for value in dict.fromkeys([*(known or [""] * (not measure.label)), *sorted(found)]):
        family.add_metric([value] if measure.label else [], found.get(value, 0))
    return family


def _histogram(name: str, measure: Measure, counts: Counts) -> Metric:
    total, buckets = 0.0, []
    for bound in (*map(str, measure.buckets), "+Inf"):
        total += counts.get((f"{name}_bucket", f"le={bound}"), 0.0)
        buckets.append((bound, total))
    family = HistogramMetricFamily(PREFIX + name, measure.meaning)
    family.add_metric([], buckets=buckets, sum_value=counts.get((f"{name}_sum", ""), 0.0))
    return family
