"""What a flow made of a completed activity, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def what_followed(decision: Mapping[str, Any], time_of: Callable[[str], str]) -> list[str]:
    """A line for each action of the workflow's decision; `time_of` writes when a follow-up is due."""
    taken = [_taken(action, time_of) for action in decision["actions"]] or ["nothing follows"]
    return [f"on {decision['disposition']}: {what}" for what in taken]


def _taken(action: Mapping[str, Any], time_of: Callable[[str], str]) -> str:
    name = action["action"].replace("_", " ")
    match action["outcome"]:
        case "activity":
            return f"{name}, due {time_of(action['scheduled_at'])}"
        case "exhausted" | "chain_limit":
            return f"{name}: {action['reason']}"
        case _:
            return f"{name} {action.get('reason') or ''}".strip()
