"""The campaigns service, composed."""

from __future__ import annotations

from campaigns import http
from campaigns.adapters.mongo_catalog import MongoCatalog
from campaigns.domain.kinds import CAMPAIGN
from campaigns.settings import Settings
from campaigns.use_cases.apply_bundle import ApplyBundle
from campaigns.use_cases.move_campaign import MoveCampaign
from contracts.asyncapi import asyncapi_document
from contracts.catalogue import topics_of
from servicekit.service import Service, run_service


def build(settings: Settings) -> Service:
    service = Service("campaigns", settings)
    stores = MongoCatalog(service.store)
    apply_bundle = ApplyBundle(stores, service.committer)
    move_campaign = MoveCampaign(stores, service.commands(stores.of(CAMPAIGN)))
    service.routes(*http.routes(stores, apply_bundle, move_campaign))
    service.asyncapi = asyncapi_document("campaigns")
    service.requires_topics(topics_of("campaigns"))
    return service


def run() -> None:
    run_service("campaigns", Settings, build)
