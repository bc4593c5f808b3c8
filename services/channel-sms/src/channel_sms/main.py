"""The composition root of channel-sms."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from channel_sms import http
from channel_sms.adapters import (
    mongo_conversations,
    mongo_inbound,
    mongo_intents,
    mongo_recalls,
    mongo_suppressions,
)
from channel_sms.adapters.mongo_contacts import KnowContacts
from channel_sms.adapters.mongo_conversations import MongoConversations
from channel_sms.adapters.mongo_inbound import MongoInbound, MongoIntake, MongoReceipts
from channel_sms.adapters.mongo_intents import MongoIntents
from channel_sms.adapters.mongo_knowledge import MongoKnowledge
from channel_sms.adapters.mongo_recalls import MongoRecalls
from channel_sms.adapters.mongo_suppressions import MongoSuppressions
from channel_sms.agents.scripted import ScriptedAgent
from channel_sms.domain.intent import CHANNEL
from channel_sms.loops import idle_seconds
from channel_sms.providers.twilio import Twilio
from channel_sms.settings import Settings
from channel_sms.use_cases.end_silent import EndSilent
from channel_sms.use_cases.forget_contacts import ForgetContacts
from channel_sms.use_cases.record_results import RecordResults
from channel_sms.use_cases.resolve_by_person import ResolveByPerson
from channel_sms.use_cases.resolve_unknown import ResolveUnknown
from channel_sms.use_cases.send_due import SendDue
from channel_sms.use_cases.settle_sends import SettleSends
from channel_sms.use_cases.start_conversations import StartConversations
from channel_sms.use_cases.work_inbound import WorkInbound
from channel_sms.use_cases.work_receipts import WorkReceipts
from channel_sms.webhooks import STATUS_PATH, Webhooks
from contracts.activities import ActivityDispatched, ActivityRecalled
from contracts.asyncapi import asyncapi_document
from contracts.campaigns import (
    AgentProfileChanged,
    CampaignChanged,
    DispositionChanged,
    EndpointChanged,
    SubjectChanged,
)
from contracts.catalogue import topics_of
from contracts.contacts import ContactChanged
from servicekit import lookouts
from servicekit.leases import Leases
from servicekit.lookouts import Lookouts
from servicekit.pipeline import by_type
from servicekit.resting import repeat
from servicekit.service import Service, run_service

ERASURES = "erasures"
_CATALOG = (SubjectChanged, DispositionChanged, CampaignChanged, EndpointChanged, AgentProfileChanged)

_ORDERS: tuple[type[ActivityDispatched | ActivityRecalled], ...] = (ActivityDispatched, ActivityRecalled)


def build(settings: Settings) -> Service:
    service = Service("channel-sms", settings)
    mongo, clock, stopping, committer = service.mongo, service.clock, service.stopping, service.committer

    def public_url() -> str:
        return settings.sms_public_url or f"http://{settings.host}:{service.port}"

    held = {
        job: Leases(mongo, job, settings.instance, settings.lease_seconds)
        for job in ("send", "inbound", "receipts", "resolve", "silence", "forget")
    }

    # State
    conversations, intents = MongoConversations(mongo), MongoIntents(mongo)
    inbound, receipts = MongoInbound(mongo), MongoReceipts(mongo)
    suppressions = MongoSuppressions(mongo, settings.fingerprints)
    service.requires(suppressions.refuse_a_lost_key)
    service.indexes(mongo_conversations.COLLECTION, mongo_conversations.INDEXES)
    service.indexes(mongo_intents.COLLECTION, mongo_intents.INDEXES)
    service.indexes(mongo_inbound.INBOUND, mongo_inbound.INBOUND_INDEXES)
    service.indexes(mongo_inbound.RECEIPTS, mongo_inbound.RECEIPT_INDEXES)
    service.indexes(mongo_suppressions.COLLECTION, ())
    service.indexes(mongo_suppressions.KEYS, ())
    service.indexes(ERASURES, lookouts.INDEXES)
    service.indexes(mongo_recalls.COLLECTION, mongo_recalls.INDEXES)
    knowledge = MongoKnowledge(service.projection)

    # The outside
    provider = Twilio(
        settings.sms_provider,
        settings.sms_provider_url,
        settings.sms_account_sid,
        settings.sms_auth_token,
        lambda intent_id: f"{public_url()}{STATUS_PATH}{intent_id}",
        settings.sms_send_timeout_seconds,
        settings.sms_concurrency + 20,
        settings.absence_proves_after,
    )
    service.on_close(provider.close)
    arriving = MongoIntake(mongo, mongo_inbound.INBOUND)
    receipting = MongoIntake(mongo, mongo_inbound.RECEIPTS)
    tokens = tuple(filter(None, (settings.sms_auth_token, settings.sms_auth_token_other)))
    rejected = service.metrics.counter("parley_webhooks_rejected_total", "Webhooks refused", "reason")
    write_window = timedelta(seconds=settings.sms_send_timeout_seconds)
    webhooks = Webhooks(arriving, receipting, intents, public_url, tokens, clock, rejected, write_window)

    # What it does
    start = StartConversations(
        knowledge,
        suppressions,
        MongoRecalls(mongo),
        clock,
        settings.sms_provider,
        settings.sms_validity_seconds,
    )
    settle = SettleSends(committer, intents, conversations, knowledge, clock)
    results = RecordResults(settle.together)
    send = SendDue(
        provider,
        intents,
        conversations,
        inbound,
        suppressions,
        knowledge,
        results,
        held["send"],
        clock,
        settings,
        stopping,
        committer.listen(mongo_intents.are_added),
        service.metrics.counter("parley_sends_total", "What the provider answered", "result"),
    )
    work_inbound = WorkInbound(
        inbound,
        intents,
        conversations,
        suppressions,
        knowledge,
        ScriptedAgent(),
        committer,
        held["inbound"],
        clock,
        settings,
        service.metrics,
    )
    work_receipts = WorkReceipts(
        receipts,
        intents,
        conversations,
        knowledge,
        settle,
        committer,
        held["receipts"],
        clock,
        service.metrics.set_aside.labels("receipt"),
    )
    resolve = ResolveUnknown(
        provider, intents, conversations, settle, committer, held["resolve"], clock, settings, results.holds
    )

    async def texts_due() -> int:
        now = clock.now()
        return await intents.count_due(now, await knowledge.campaigns_at_rest(now))

    end_silent = EndSilent(
        conversations,
        inbound,
        knowledge,
        committer,
        held["silence"],
        clock,
        arriving,
        settings.sms_redelivery_seconds,
    )

    erasures = Lookouts(mongo[ERASURES])
    forget = ForgetContacts(
        erasures,
        conversations,
        intents,
        inbound,
        suppressions,
        knowledge,
        committer,
        held["forget"],
        clock,
        service.metrics.set_aside.labels("erasure"),
    )

    service.subscribe("know-contacts", ContactChanged, KnowContacts(knowledge.contacts, erasures))
    service.subscribe("know-catalog", _CATALOG, by_type(knowledge.handlers()))
    service.subscribe(
        "start-conversations",
        _ORDERS,
        service.unit_of_work(
            "start-conversations",
            conversations,
            aggregate_id=lambda message: message.activity_id,
            decide=start.decide,
            facts=start.facts,
        ),
        topic=ActivityDispatched.wire.topic.named(channel=CHANNEL),
        batch_size=min(settings.batch_size, 300),
    )
    service.background("send", send.run)
    service.background(
        "inbound",
        lambda: repeat(
            stopping,
            work_inbound.step,
            held["inbound"],
            partial(idle_seconds, held["inbound"]),
            wake=arriving.stored,
            batch=work_inbound.batch,
        ),
    )
    service.background(
        "receipts",
        lambda: repeat(
            stopping,
            work_receipts.step,
            held["receipts"],
            partial(idle_seconds, held["receipts"]),
            wake=receipting.stored,
            batch=work_receipts.batch,
        ),
    )
    service.background(
        "resolve",
        lambda: repeat(stopping, resolve.step, held["resolve"], 0.5, batch=resolve.batch),
    )
    service.counted_gauge(
        "parley_unknown_intents", "Sends whose result nobody knows yet", intents.count_unknown
    )
    service.counted_gauge(
        "parley_texts_due", "Texts whose time has come and that are not being sent, up to 10,000", texts_due
    )
    service.background("silence", lambda: repeat(stopping, end_silent.step, held["silence"], 0.25))
    service.background("forget", lambda: repeat(stopping, forget.step, held["forget"], 0.5))
    service.counted_gauge(
        "parley_erasures_due", "People who were erased and wait to be forgotten", erasures.count_due
    )
    service.routes(
        webhooks.router(),
        http.routes(conversations, intents, inbound, suppressions, ResolveByPerson(intents, settle)),
    )
    service.asyncapi = asyncapi_document("channel-sms")
    service.requires_topics(topics_of("channel-sms", (CHANNEL,)))
    return service


def run() -> None:
    run_service("channel-sms", Settings, build)
