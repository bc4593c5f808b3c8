"""The words for why something did not happen: other systems branch on them, so they are contracts.

A message types its reason as text: a later release may know one more, and people give reasons of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

ALLOWED = "allowed"
"""The reason of the gate's verdict `allow`."""


class Objection(StrEnum):
    """Why the policy gate defers or denies."""

    CONTACT_ERASED = "contact_erased"
    CAMPAIGN_UNKNOWN = "campaign_unknown"
    CAMPAIGN_DRAFT = "campaign_draft"
    CAMPAIGN_NOT_STARTED = "campaign_not_started"
    CAMPAIGN_PAUSED = "campaign_paused"
    CAMPAIGN_STOPPED = "campaign_stopped"
    CAMPAIGN_ENDED = "campaign_ended"
    SUBJECT_UNKNOWN = "subject_unknown"
    CONTACT_UNKNOWN = "contact_unknown"
    CONTACT_IS_DRAFT = "contact_is_draft"
    OPTED_OUT = "opted_out"
    NO_ENDPOINT = "no_endpoint"
    ENDPOINT_UNKNOWN = "endpoint_unknown"
    ENDPOINT_OF_ANOTHER_CHANNEL = "endpoint_of_another_channel"
    ENDPOINT_DISABLED = "endpoint_disabled"
    NO_ADDRESS = "no_address"
    POLICY_UNKNOWN = "policy_unknown"
    OUTSIDE_WINDOW = "outside_window"
    UNKNOWN_ZONE = "unknown_zone"


AT_REST = frozenset({Objection.CAMPAIGN_DRAFT, Objection.CAMPAIGN_NOT_STARTED, Objection.CAMPAIGN_PAUSED})
"""What is said of a campaign that may still start, or go on: its activities wait for that."""


OVERTAKEN = (
    Objection.OUTSIDE_WINDOW,
    Objection.CAMPAIGN_STOPPED,
    Objection.CAMPAIGN_ENDED,
    *sorted(AT_REST),
    Objection.ENDPOINT_DISABLED,
)
"""Why what the gate allowed is given back by a channel: it would not be allowed any more."""


class Skipped(StrEnum):
    """Why a batch makes no activity for a contact that it selects."""

    OPTED_OUT = "opted_out"
    NO_ADDRESS = "no_address"
    DUPLICATE = "duplicate_open_activity"


_OURS = frozenset[str]((*Objection, *Skipped))


def in_our_words(reason: str | None, *beginnings: str) -> str | None:
    """What may stay of a reason when its contact is forgotten. With `denied` among the beginnings, all of
    `denied: opted_out`, `denied` of anything else that begins so, and nothing of what somebody wrote."""
    if reason is None or reason in _OURS:
        return reason
    beginning, _, rest = reason.partition(": ")
    if beginning not in beginnings:
        return None
    return reason if rest in _OURS else beginning


def one_of(words: Iterable[str]) -> str:
    """For the description of a field."""
    return ", ".join(f"`{word}`" for word in words)
