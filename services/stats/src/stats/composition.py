"""The use cases over one database: the service has one, a rebuild beside it another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pymongo import IndexModel

from servicekit.clock import Clock
from servicekit.metrics import Metrics
from servicekit.mongo import Mongo
from servicekit.projection import Projection
from stats.adapters import mongo_cells, mongo_ledger
from stats.adapters.mongo_ledger import MongoLedger
from stats.direction_provider import choose, installed
from stats.direction_providers import SHIPPED
from stats.settings import Settings
from stats.use_cases import record_decisions
from stats.use_cases.change_targets import EraseTarget, LinkTarget, MergeTargets, SetParentOf
from stats.use_cases.know_contacts import KnowContacts, addresses_of
from stats.use_cases.obey_commands import ObeyCommands
from stats.use_cases.recalculate import DIFFERENCE_INDEXES, DIFFERENCES, RUNS, Recalculations
from stats.use_cases.record_activities import ACTIVITIES, ACTIVITY_INDEXES
from stats.use_cases.record_decisions import Decisions, RecordDecisions
from stats.use_cases.record_interactions import RecordInteractions
from stats.use_cases.set_counting import COUNTING, Counting
from stats.use_cases.settle_waiting import SettleWaiting
from stats.use_cases.transactions import Rewriting
from stats.use_cases.worlds import Worlds


class Books:
    """Ledger and counters with everything that may change them."""

    def __init__(
        self,
        settings: Settings,
        mongo: Mongo,
        clock: Clock,
        metrics: Metrics | None = None,
        fresh_for: float = 0.5,
    ) -> None:
        ledger = MongoLedger(mongo, "stats", settings.instance)
        contacts = Projection(mongo, "contacts", addresses_of)
        self.counting = Counting(mongo, frozenset(settings.stats_target_types), fresh_for)
        providers = choose([*SHIPPED, *installed()])
        excluded = frozenset(settings.stats_excluded_target_types)
        worlds = Worlds(clock, providers, self.counting, excluded, ledger, contacts)
        rewriting = Rewriting(ledger, worlds)
        decisions = Decisions(mongo, ledger)
        erase = EraseTarget(rewriting, decisions)
        metrics = metrics or Metrics()
        # Each consumer writes report cells of its own, as each replica does.
        self.record_interactions = [
            RecordInteractions(
                "stats.record-interactions",
                MongoLedger(mongo, "stats", settings.instance, number),
                worlds,
                clock,
                metrics,
            )
            for number in range(settings.stats_consumers)
        ]
        self.record_decisions = RecordDecisions(mongo, ledger, decisions, settings.instance, metrics)
        self.know_contacts = KnowContacts(contacts, mongo, erase)
        self.recalculations = Recalculations(mongo, clock, settings)
        self.obey = ObeyCommands(
            LinkTarget(rewriting, worlds),
            MergeTargets(rewriting, decisions),
            erase,
            SetParentOf(rewriting),
            self.counting,
            self.recalculations,
            clock,
        )
        self.settle = SettleWaiting(
            mongo, rewriting, worlds, self.counting, clock, settings, settings.stats_settle_every
        )

    indexes: Mapping[str, Sequence[IndexModel]] = {
        mongo_ledger.LEDGER: mongo_ledger.LEDGER_INDEXES,
        mongo_ledger.TARGETS: mongo_ledger.TARGET_INDEXES,
        mongo_cells.CELLS: mongo_cells.CELL_INDEXES,
        mongo_cells.AGENT_CELLS: mongo_cells.AGENT_CELL_INDEXES,
        mongo_ledger.MARKS: mongo_ledger.MARK_INDEXES,
        ACTIVITIES: ACTIVITY_INDEXES,
        record_decisions.DECISION_LEDGER: record_decisions.LEDGER_INDEXES,
        record_decisions.DECISION_CELLS: mongo_cells.CELL_INDEXES,
        COUNTING: (),
        RUNS: (),
        DIFFERENCES: DIFFERENCE_INDEXES,
        "contacts": (),
    }
