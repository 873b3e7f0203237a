"""Prometheus metrics of the centre, read at ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.api.schemas import LinkState, SiteSummary
from orchestrator.rollouts.states import RolloutStatus

Measures = Callable[[], Sequence[tuple[str, str, Mapping[str, float]]]]  # of (site, instance)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "sluice_requests_total",
            "HTTP requests answered.",
            ["listener", "method", "route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "sluice_request_seconds",
            "Time to answer, long polls and event streams left out.",
            ["listener"],
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.frames = Counter(
            "sluice_ingest_frames_total", "Frames taken into the ledger.", ["site"], registry=registry
        )
        self.duplicates = Counter(
            "sluice_ingest_duplicates_total", "Frames that were here already.", ["site"], registry=registry
        )
        self.samples = Counter(
            "sluice_ingest_samples_total", "Samples taken into the ledger.", ["site"], registry=registry
        )
        self.bytes = Counter("sluice_ingest_bytes_total", "Bytes of ingest requests.", ["site"], registry=registry)
        self.lost = Counter(
            "sluice_lost_samples_total", "Samples that gaps and bad frames took.", ["site"], registry=registry
        )
        self.quarantined = Counter(
            "sluice_quarantined_frames_total", "Frames that could not be read.", ["site"], registry=registry
        )
        self.forgotten = Counter(
            "sluice_forgotten_rows_total", "Rows deleted because of their age.", ["table"], registry=registry
        )
        self.keep_days = Gauge(
            "sluice_keep_days", "Days that history and events are kept; 0 = for ever.", registry=registry
        )
        self.db_seconds = Histogram(
            "sluice_db_transaction_seconds",
            "Time of database transactions.",
            ["kind"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
            registry=registry,
        )

    def observe_db(self, kind: str, seconds: float) -> None:
        self.db_seconds.labels(kind).observe(seconds)

    def watch(
        self, fleet: Callable[[], tuple[Sequence[SiteSummary], RolloutStatus | None, int]], measures: Measures
    ) -> None:
        """``fleet()`` gives every site, the newest rollout's status, and the live listeners; ``measures()`` what
        workloads measure of themselves. Both are called at each scrape."""
        self.registry.register(_Fleet(fleet))
        self.registry.register(_Workloads(measures))


class _Workloads(Collector):
    def __init__(self, measures: Measures) -> None:
        self._measures = measures

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "sluice_workload_measure",
            "What a workload measures of itself, as last reported.",
            labels=["site", "instance", "measure"],
        )
        for site, instance, measures in self._measures():
            for name, value in measures.items():
                family.add_metric([site, instance, name], value)
        yield family

    def describe(self) -> Iterable[Metric]:
        return ()


class _Fleet(Collector):
    def __init__(self, fleet: Callable[[], tuple[Sequence[SiteSummary], RolloutStatus | None, int]]) -> None:
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        summaries, status, listeners = self._fleet()
        links = GaugeMetricFamily("sluice_sites", "Sites by state of their link.", labels=["link"])
        for state in LinkState:
            links.add_metric([state.value], sum(1 for s in summaries if s.link.state is state))
        yield links
        depth = GaugeMetricFamily("sluice_buffer_samples", "Samples that wait at the site.", labels=["site"])
        size = GaugeMetricFamily("sluice_buffer_bytes", "Bytes that wait at the site.", labels=["site"])
        for summary in summaries:
            if summary.buffer is not None:
                depth.add_metric([summary.name], summary.buffer.samples)
                size.add_metric([summary.name], summary.buffer.bytes)
        yield depth
        yield size
        states = GaugeMetricFamily("sluice_rollout", "1 for the state of the newest rollout.", labels=["status"])
        for candidate in RolloutStatus:
            states.add_metric([candidate.value], float(candidate is status))
        yield states
        yield GaugeMetricFamily("sluice_live_listeners", "Open live lines.", value=listeners)

    def describe(self) -> Iterable[Metric]:
        return ()
