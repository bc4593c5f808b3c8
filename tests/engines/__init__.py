"""The Kafka and the MongoDB that the suite runs on."""

from tests.engines.choice import Engines, broker_kind, provide_engines

__all__ = ["Engines", "broker_kind", "provide_engines"]
