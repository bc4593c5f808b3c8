"""Which activities a worklist shows: every filter narrows it, and all of them together."""

from __future__ import annotations

from typing import Any

import pytest

from activities.adapters.mongo_activities import Filters
from contracts.vocabulary import ActivityState, Mode
from servicekit.mongo import Document
from tests.activities.builders import NOON


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, {}),
        ({"mode": Mode.MANUAL}, {"mode": "manual"}),
        ({"campaign_id": "c"}, {"campaign_id": "c"}),
        ({"subject_id": "s"}, {"subject_id": "s"}),
        ({"contact_id": "p"}, {"contact_id": "p"}),
        ({"batch_id": "b"}, {"batch_id": "b"}),
        ({"states": [ActivityState.SCHEDULED]}, {"state": {"$in": ["scheduled"]}}),
        ({"owner": "ann"}, {"$or": [{"owner": "ann"}, {"assigned_to": "ann"}]}),
        ({"due_before": NOON}, {"due_at": {"$lt": NOON}}),
        ({"contact_id": "p", "due_before": NOON}, {"contact_id": "p", "due_at": {"$lt": NOON}}),
    ],
)
def test_a_filter_is_asked_of_the_database(asked: dict[str, Any], wanted: Document) -> None:
    assert Filters(**asked).query() == wanted
