"""The batch loader: finds contacts and loads one activity for each."""

from __future__ import annotations

from batch_loader import http
from batch_loader.adapters import mongo_audience, mongo_batches, mongo_open_activities
from batch_loader.adapters.kafka_copies import KafkaCopies
from batch_loader.adapters.mongo_audience import MongoAudience
from batch_loader.adapters.mongo_batches import MongoShelf
from batch_loader.adapters.mongo_catalog import MongoCatalog
from batch_loader.adapters.mongo_open_activities import MongoOpenActivities, marked_refused
from batch_loader.domain.batch import Batch
from batch_loader.domain.page import Reservation
from batch_loader.settings import Settings
from batch_loader.subscribers import follow_when_activities_change
from batch_loader.use_cases.await_copies import AwaitCopies
from batch_loader.use_cases.draft_batch import DraftBatch
from batch_loader.use_cases.follow_activities import FollowActivities
from batch_loader.use_cases.load_batches import LoadBatches
from batch_loader.use_cases.preview_batch import PreviewBatch
from batch_loader.use_cases.steer_batch import SteerBatch
from contracts.activities import ActivityChanged
from contracts.asyncapi import asyncapi_document
from contracts.campaigns import AgentProfileChanged, CampaignChanged, EndpointChanged, SubjectChanged
from contracts.catalogue import topics_of
from contracts.contacts import ContactChanged
from contracts.stats import ContactStatsChanged
from servicekit.leases import Leases
from servicekit.pipeline import by_type
from servicekit.service import Service, run_service


def build(settings: Settings) -> Service:
    service = Service("batch-loader", settings)
    clock = service.clock

    batches = service.store("batches", Batch, "batch_id", mongo_batches.INDEXES)
    reservations = service.store(
        mongo_open_activities.COLLECTION, Reservation, "activity_id", mongo_open_activities.INDEXES
    )
    service.indexes(mongo_audience.COLLECTION, mongo_audience.INDEXES)
    campaigns = service.projection("campaigns")
    subjects = service.projection("subjects")
    endpoints = service.projection("endpoints")
    agent_profiles = service.projection("agent_profiles")

    shelf = MongoShelf(batches)
    audience = MongoAudience(service.mongo)
    open_activities = MongoOpenActivities(service.mongo)
    catalog = MongoCatalog(campaigns, subjects, endpoints, agent_profiles, frozenset(settings.channels))
    commands = service.commands(batches)

    follow = FollowActivities(batches, audience, open_activities, service.committer, clock, marked_refused)
    copies = KafkaCopies(
        settings.kafka_bootstrap_servers,
        {
            "contacts": service.subscribe("know-contacts", ContactChanged, audience.keep_contacts),
            "statistics": service.subscribe(
                "know-statistics", ContactStatsChanged, audience.keep_statistics, unhurried=True
            ),
            "activities": service.subscribe(
                "follow-activities", ActivityChanged, follow_when_activities_change(follow), unhurried=True
            ),
        },
    )
    loader = LoadBatches(
        batches,
        shelf,
        audience,
        open_activities,
        AwaitCopies(batches, commands, copies, audience, clock),
        reservations,
        service.committer,
        Leases(service.mongo, "load", settings.instance, settings.lease_seconds),
        clock,
        service.stopping,
        settings.batch_loader_page_size,
    )

    service.subscribe(
        "know-catalog",
        (CampaignChanged, SubjectChanged, EndpointChanged, AgentProfileChanged),
        by_type(
            {
                CampaignChanged: campaigns,
                SubjectChanged: subjects,
                EndpointChanged: endpoints,
                AgentProfileChanged: agent_profiles,
            }
        ),
    )
    service.background("loader", loader.run)
    service.routes(
        http.routes(
            batches,
            shelf,
            DraftBatch(commands, catalog, clock),
            PreviewBatch(audience, open_activities, catalog, copies, clock, settings.batch_loader_page_size),
            SteerBatch(commands, audience, catalog, clock, loader.wake),
        )
    )
    service.asyncapi = asyncapi_document("batch-loader")
    service.requires_topics(topics_of("batch-loader"))
    return service


def run() -> None:
    run_service("batch-loader", Settings, build)
