"""The statistics service: the attempt ledger, its counters, and the reports that rest on them."""

from __future__ import annotations

from contracts.activities import ActivityChanged, ActivityCompleted, ActivityDecided
from contracts.asyncapi import asyncapi_document
from contracts.campaigns import CampaignChanged, DispositionChanged
from contracts.catalogue import topics_of
from contracts.channel_sms import InteractionRecorded
from contracts.contacts import ContactChanged
from servicekit.pipeline import by_type
from servicekit.service import Service, run_service
from stats.adapters.mongo_targets import MongoTargets
from stats.composition import Books
from stats.http.commands import command_routes
from stats.http.decisions import decision_routes
from stats.http.recalculations import recalculation_routes
from stats.http.reports import report_routes
from stats.http.targets import target_routes
from stats.settings import Settings
from stats.use_cases.announce_counters import AnnounceCounters
from stats.use_cases.command_over_rest import CommandOverRest
from stats.use_cases.obey_commands import COMMANDS
from stats.use_cases.read_counters import ReadCounters
from stats.use_cases.read_decisions import ReadDecisions
from stats.use_cases.read_reports import ReadReports
from stats.use_cases.read_totals import ReadTotals
from stats.use_cases.record_activities import RecordActivities


def build(settings: Settings) -> Service:
    service = Service("stats", settings)
    mongo, clock, metrics = service.mongo, service.clock, service.metrics
    books = Books(settings, mongo, clock, metrics)
    for collection, indexes in books.indexes.items():
        service.indexes(collection, indexes)

    intake = [
        service.subscribe(
            "record-interactions",
            InteractionRecorded,
            record_interactions,
            batch_size=settings.stats_batch_size,
            unhurried=True,
            consumer=consumer,
        )
        for consumer, record_interactions in enumerate(books.record_interactions, start=1)
    ]
    service.subscribe("know-contacts", ContactChanged, books.know_contacts)
    service.subscribe("obey-commands", COMMANDS, books.obey)
    for name, message in (("activities", ActivityChanged), ("completions", ActivityCompleted)):
        service.subscribe(
            f"record-{name}",
            message,
            RecordActivities(name, mongo, settings.instance, metrics),
            unhurried=True,
        )
    service.subscribe("record-decisions", ActivityDecided, books.record_decisions, unhurried=True)
    campaigns = service.projection("campaigns")
    dispositions = service.projection("dispositions")
    service.subscribe(
        "know-catalog",
        (CampaignChanged, DispositionChanged),
        by_type({CampaignChanged: campaigns, DispositionChanged: dispositions}),
    )

    announce = AnnounceCounters(
        mongo,
        service.producer,
        clock,
        metrics,
        settings,
        settings.stats_announce_every,
        behind=lambda: any(subscription.lag() for subscription in intake),
    )
    service.background("announce", lambda: announce.run(service.stopping))
    service.background("settle", lambda: books.settle.run(service.stopping))
    service.background("recalculate", lambda: books.recalculations.run(service.stopping))

    reports = ReadReports(mongo, clock, campaigns, dispositions)
    service.routes(
        target_routes(ReadCounters(mongo, clock), MongoTargets(mongo), ReadTotals(mongo), clock),
        command_routes(CommandOverRest(books.obey, service.outbox), books.counting, clock),
        recalculation_routes(books.recalculations, clock),
        report_routes(reports),
        decision_routes(ReadDecisions(mongo, reports)),
    )
    service.asyncapi = asyncapi_document("stats")
    service.requires_topics(topics_of("stats"))
    return service


def run() -> None:
    run_service("stats", Settings, build)
