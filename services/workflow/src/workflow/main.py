"""What the workflow service is made of."""

from __future__ import annotations

from contracts.activities import ActivityCompleted
from contracts.asyncapi import asyncapi_document
from contracts.catalogue import topics_of
from servicekit.service import Service, run_service
from workflow import http
from workflow.adapters.mongo_flows import DECISION_INDEXES, MongoDecisionCounts, MongoFlows
from workflow.domain.decision import Decision, decide
from workflow.domain.flow import Flow
from workflow.settings import Settings
from workflow.use_cases.apply_flows import ApplyFlows
from workflow.use_cases.change_version import PublishDraft, RollBack
from workflow.use_cases.count_decisions import CountDecisions
from workflow.use_cases.preview_completion import PreviewCompletion


def build(settings: Settings) -> Service:
    service = Service("workflow", settings)

    flows = service.store("flows", Flow, "flow_id")
    decisions = service.store("decisions", Decision, "activity_id", indexes=DECISION_INDEXES)
    stored = MongoFlows(flows)

    service.subscribe(
        "decide-what-follows",
        ActivityCompleted,
        service.unit_of_work(
            "decide-what-follows",
            decisions,
            aggregate_id=lambda completed: completed.activity_id,
            decide=decide,
            facts=stored.for_completions,
        ),
    )
    changes = service.commands(flows)
    service.routes(
        http.routes(
            flows,
            decisions,
            ApplyFlows(flows, service.committer, service.clock),
            PublishDraft(changes, service.clock),
            RollBack(changes, service.clock),
            PreviewCompletion(flows, service.clock),
            CountDecisions(MongoDecisionCounts(service.mongo, decisions)),
        )
    )
    service.asyncapi = asyncapi_document("workflow")
    service.requires_topics(topics_of("workflow"))
    return service


def run() -> None:
    run_service("workflow", Settings, build)
