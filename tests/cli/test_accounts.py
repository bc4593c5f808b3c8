"""What the books say of counts that are right, whatever happened on the way."""

from __future__ import annotations

from typing import Any

from cli.accounts import Activities, _batch


def activity(**told: Any) -> dict[str, Any]:
    return {"state": "scheduled", "mode": "manual", "batch_id": "b", "source": "batch", **told}


def test_what_was_refused_after_loading_is_skipped_and_not_loaded() -> None:
    counted = Activities()
    for told in (activity(), activity(state="cancelled", reason="duplicate_open_activity")):
        counted.add(told)
    batch = {"batch_id": "b", "name": "B", "selected": 2, "loaded": 1}
    books = list(_batch(batch | {"skipped": {"duplicate_open_activity": 1}}, counted))
    assert [equation.holds for equation in books] == [True, True]
