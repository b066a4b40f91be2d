"""Prometheus metrics; labels are methods, route templates and statuses, never anything of a person."""

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = {"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"}
_BUCKETS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("method", "route", "status")
        self._requests = Counter("ownvision_requests", "Requests answered", labels, registry=self.registry)
        self._seconds = Histogram(
            "ownvision_request_seconds", "Time to answer", labels[:2], buckets=_BUCKETS, registry=self.registry
        )
        self._running = Gauge("ownvision_requests_running", "Requests under way", registry=self.registry)
        self._lock = threading.Lock()
        self.in_flight = 0

    def begin(self) -> None:
        """A request begins."""
        self.in_flight += 1
        self._running.set(self.in_flight)

    def end(self) -> None:
        """A request ends."""
        self.in_flight -= 1
        self._running.set(self.in_flight)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        name = method if method in _METHODS else "other"
        self._requests.labels(name, route, str(status)).inc()
        self._seconds.labels(name, route).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
