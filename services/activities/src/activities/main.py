"""The composition root of activities."""

from __future__ import annotations

from activities import http
from activities.adapters.mongo_activities import INDEXES, MongoActivities
from activities.adapters.mongo_catalog import MongoCatalog, keep_item
from activities.adapters.mongo_contacts import KnowContacts, MongoContacts, keep_contact
from activities.adapters.mongo_facts import MongoFacts
from activities.domain.activity import Activity
from activities.domain.creation import create
from activities.domain.moves import SLOTS
from activities.domain.outcomes import hear
from activities.settings import Settings
from activities.use_cases.create_activity import CreateActivity
from activities.use_cases.dispatch_due import DispatchDue, leaves_work
from activities.use_cases.forget_contacts import ForgetContacts
from activities.use_cases.hear_outcomes import HearOutcomes
from activities.use_cases.look_for_erased import LookForErased
from activities.use_cases.work_activity import WorkActivity
from contracts.activities import ActivityCreated, ActivityOutcome, ActivityProgressed, ActivityReturned
from contracts.asyncapi import asyncapi_document
from contracts.campaigns import (
    CampaignChanged,
    DispositionChanged,
    EndpointChanged,
    PolicyChanged,
    SubjectChanged,
)
from contracts.catalogue import topics_of
from contracts.contacts import ContactChanged
from servicekit import lookouts
from servicekit.leases import Leases
from servicekit.lookouts import Lookouts
from servicekit.offsets import Offsets
from servicekit.service import Service, run_service

CATALOG = (SubjectChanged, DispositionChanged, CampaignChanged, EndpointChanged, PolicyChanged)


ERASURES = "erasures"


def build(settings: Settings) -> Service:
    service = Service("activities", settings)

    store = service.store("activities", Activity, "activity_id", indexes=INDEXES)
    service.indexes(SLOTS, ())
    service.indexes(ERASURES, lookouts.INDEXES)
    known_contacts = service.projection("contacts", keep_contact)
    activities = MongoActivities(service.mongo, store, service.metrics)
    contacts = MongoContacts(known_contacts)
    catalog = MongoCatalog(service.projection("catalog", keep_item))
    facts = MongoFacts(service.clock, catalog, contacts, service.mongo[SLOTS], frozenset(settings.channels))

    create_activity = CreateActivity(store, service.committer, catalog, facts)
    work_activity = WorkActivity(service.commands(store), service.clock, catalog, contacts)
    forget_contacts = ForgetContacts(activities, service.commands(store), service.clock)
    erasures = Lookouts(service.mongo[ERASURES])
    look_for_erased = LookForErased(
        erasures,
        forget_contacts,
        Leases(service.mongo, "forget", settings.instance, settings.lease_seconds),
        service.metrics.set_aside.labels("erasure"),
    )
    dispatch_due = DispatchDue(
        store,
        service.committer,
        activities,
        catalog,
        contacts,
        Leases(service.mongo, "scheduler", settings.instance, settings.lease_seconds),
        service.clock,
        settings.scheduler_batch,
        settings.scheduler_poll_ms / 1000,
        service.committer.listen(leaves_work),
    )

    service.subscribe("know-catalog", CATALOG, catalog)
    service.subscribe(
        "know-contacts",
        ContactChanged,
        KnowContacts(known_contacts, erasures, store.collection, service.clock),
    )
    creating = service.subscribe(
        "create-activities",
        ActivityCreated,
        service.unit_of_work(
            "create-activities",
            store,
            aggregate_id=lambda message: message.activity_id,
            decide=create,
            facts=facts.for_creation,
        ),
    )
    service.subscribe(
        "hear-outcomes",
        (ActivityProgressed, ActivityReturned, ActivityOutcome),
        HearOutcomes(
            service.unit_of_work(
                "hear-outcomes",
                store,
                aggregate_id=lambda message: message.activity_id,
                decide=hear,
                facts=facts.for_outcomes,
            ),
            Offsets(settings.kafka_bootstrap_servers, creating.topic, creating.group),
        ),
        tries=6,
    )
    service.background("scheduler", lambda: dispatch_due.run(service.stopping))
    service.background("forget", lambda: look_for_erased.run(service.stopping))
    service.counted_gauge(
        "parley_erasures_due", "People who were erased and wait to be forgotten", erasures.count_due
    )
    service.counted_gauge(
        "parley_activities_due",
        "Activities whose time has come and that nothing holds, up to 10,000",
        lambda: activities.count_due(service.clock.now()),
    )
    service.routes(http.routes(service.clock, store, activities, create_activity, work_activity))
    service.asyncapi = asyncapi_document("activities")
    service.requires_topics(topics_of("activities", settings.channels))
    return service


def run() -> None:
    run_service("activities", Settings, build)
