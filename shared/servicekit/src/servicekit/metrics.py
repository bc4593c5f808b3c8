"""What every service counts. Each process has one registry, served at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector


class Metrics:
    """The metrics of one service process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.consumed = self.counter(
            "parley_messages_consumed_total",
            "Messages handled, by what became of them",
            "subscriber",
            "outcome",
        )
        self.batch_seconds = self.histogram(
            "parley_batch_seconds", "Time from a batch's arrival to its last effect", "subscriber"
        )
        self.suppressed = self.counter(
            "parley_suppressed_total",
            "Deliveries that changed nothing: repeats and stale versions",
            "subscriber",
        )
        self.dead_letters = self.counter(
            "parley_dead_letters_total", "Messages given up on", "subscriber", "reason"
        )
        self.waits = self.counter(
            "parley_dependency_waits_total",
            "Times a batch or a background task waited for a dependency",
            "waiting",
            "error",
        )
        self.conflicts = self.counter(
            "parley_write_conflicts_total", "Units of work decided again after a conflict", "subscriber"
        )
        self.rebalances = self.counter("parley_rebalances_total", "Partitions revoked", "subscriber")
        self.lag = self.gauge("parley_lag_messages", "Messages not yet taken", "subscriber")
        self.in_hand = self.gauge(
            "parley_batches_in_hand", "Whether a batch was taken and is not finished", "subscriber"
        )
        self.lag_seconds = self.gauge(
            "parley_lag_seconds",
            "While behind: the age of the last message taken, or the time since there was no lag",
            "subscriber",
        )
        self.broker_silent = self.gauge(
            "parley_broker_silent_seconds",
            "Time since the broker last answered a consumer here, or was first asked if it never has",
        )
        self.clock_ahead = self.gauge(
            "parley_clock_ahead_seconds", "How far this machine's clock is ahead of the database's"
        )
        self.outbox_rows = self.gauge("parley_outbox_rows", "Rows not yet published, a batch of them at most")
        self.outbox_age = self.gauge("parley_outbox_age_seconds", "Age of the oldest unpublished row")
        self.published = self.counter("parley_messages_published_total", "Rows published", "topic")
        self.set_aside = self.counter(
            "parley_set_aside_total", "Work left to a person, because it fails for reasons of its own", "what"
        )

        self.background_failures = self.gauge(
            "parley_background_failures",
            "Failures in a row of a background task, for reasons of its own",
            "task",
        )

    def counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(name, help_, labels, registry=self.registry)

    def gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(name, help_, labels, registry=self.registry)

    def histogram(self, name: str, help_: str, *labels: str) -> Histogram:
        return Histogram(name, help_, labels, registry=self.registry)
