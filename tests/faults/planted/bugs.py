"""Small wrong changes of the kind that reviews miss, and the tests that must notice each of them."""

from __future__ import annotations

from dataclasses import dataclass

KIT = "shared/servicekit/src/servicekit"
SMS = "services/channel-sms/src/channel_sms"
STATS = "services/stats/src/stats"


@dataclass(frozen=True)
class Bug:
    """`wrong` in place of `right`, once, in one file of a copy."""

    name: str
    breaks: str
    file: str
    right: str
    wrong: str
    caught_by: tuple[str, ...]
    quick: bool = False
    """Belongs to the short list that CI runs."""


BUGS = (
    Bug(
        "commit before the work",
        "P2",
        f"{KIT}/bus.py",
        "            ack_policy=AckPolicy.NACK_ON_ERROR,\n            max_records",
        "            ack_policy=AckPolicy.ACK_FIRST,\n            max_records",
        ("tests/servicekit/test_delivery.py::test_no_subscriber_acknowledges_by_itself",),
        quick=True,
    ),
    Bug(
        "acknowledgement on error",
        "P2",
        f"{KIT}/bus.py",
        "        except (Stopping, InjectedFault):\n            raise\n",
        "        except (Stopping, InjectedFault):\n            return\n",
        (
            "tests/servicekit/test_delivery.py"
            "::test_an_effect_survives_the_failure_between_it_and_its_acknowledgement",
        ),
    ),
    Bug(
        "no version condition",
        "P2",
        f"{KIT}/unit_of_work.py",
        'still = {"_id": document["_id"], "version": before.version}',
        'still = {"_id": document["_id"]}',
        ("tests/servicekit/test_state.py::test_what_was_decided_from_an_older_version_is_not_written",),
        quick=True,
    ),
    Bug(
        "outbox outside the transaction",
        "P2",
        f"{KIT}/unit_of_work.py",
        "await self.outbox.insert(changes.rows, session)",
        "await self.outbox.insert(changes.rows, None)  # type: ignore[arg-type]",
        ("tests/servicekit/test_state.py::test_nothing_is_announced_of_a_transaction_that_failed",),
    ),
    Bug(
        "outbox deleted before the broker's answer",
        "P2",
        f"{KIT}/outbox.py",
        "        self._before_publish()\n",
        '        gone = {"_id": {"$in": [parcel["_id"] for parcel in waiting]}}\n'
        "        await self._mongo[COLLECTION].delete_many(gone)\n"
        "        self._before_publish()\n",
        (
            "tests/servicekit/test_outbox.py"
            "::test_a_failure_between_publishing_and_deleting_repeats_but_never_loses",
        ),
        quick=True,
    ),
    Bug(
        "a row overtakes an unconfirmed one of its key",
        "P2",
        f"{KIT}/outbox.py",
        "        if failed or not held.isdisjoint(lanes):",
        "        if failed:",
        ("tests/servicekit/test_outbox.py::test_no_parcel_overtakes_one_that_is_published_again",),
        quick=True,
    ),
    Bug(
        "lease unchecked",
        "P1",
        f"{KIT}/leases.py",
        '{"$lte": ["$$this.until", "$$NOW"]}]}',
        '{"$ne": ["$$this.owner", me]}]}',
        ("tests/servicekit/test_outbox.py::test_what_a_dead_member_held_is_taken_when_its_lease_ends",),
        quick=True,
    ),
    Bug(
        "a conflict counts as a try",
        "P10",
        f"{KIT}/pipeline.py",
        "if outcome.patient:",
        "if False and outcome.patient:",
        (
            "tests/servicekit/test_delivery.py"
            "::test_what_somebody_killed_still_holds_is_waited_for_without_counting",
        ),
        quick=True,
    ),
    Bug(
        "a poison message takes its batch with it",
        "P10",
        f"{KIT}/pipeline.py",
        "                    rejected.append(reject)\n",
        "                    rejected.append(reject)\n                    break\n",
        ("tests/servicekit/test_delivery.py::test_poison_goes_to_the_dead_letters_and_the_good_flows_on",),
    ),
    Bug(
        "dead letters before the good ones",
        "P10",
        f"{KIT}/pipeline.py",
        "        first = pending[:_IDS_LOGGED]\n",
        "        first = pending[:_IDS_LOGGED]\n        await self._bury(rejected)\n",
        ("tests/servicekit/test_delivery.py::test_the_good_ones_of_a_batch_come_before_its_dead_letters",),
    ),
    Bug(
        "an older version overwrites a newer one",
        "P2",
        f"{KIT}/projection.py",
        '{"$lt": document["version"]}',
        '{"$ne": document["version"]}',
        ("tests/servicekit/test_state.py::test_an_older_copy_never_overwrites_a_newer_one",),
        quick=True,
    ),
    Bug(
        "retry after a read timeout",
        "P1",
        f"{SMS}/providers/twilio.py",
        "return Ambiguous(why) if body.begun else NotSent(why, everybody=True)",
        "return NotSent(why, everybody=True)",
        (
            "tests/channel_sms/test_in_doubt.py"
            "::test_an_ambiguous_send_is_resolved_by_look_up_and_never_repeated",
        ),
    ),
    Bug(
        "retry after a 500",
        "P1",
        f"{SMS}/providers/twilio.py",
        '    return Ambiguous(f"status {status}")\n',
        '    return NotSent(f"status {status}")\n',
        ("tests/channel_sms/test_intents.py::test_an_answer_proves_no_more_than_it_does",),
        quick=True,
    ),
    Bug(
        "intent claimed after the send",
        "P1",
        f"{SMS}/use_cases/send_due.py",
        "        claimed = await self._intents.claim(allowed, self._clock.now(), real_now())\n",
        "        claimed = list(allowed)\n",
        ("tests/channel_sms/test_sending.py::test_two_senders_send_each_intent_once",),
    ),
    Bug(
        "the claim forgets its condition",
        "P1",
        f"{SMS}/adapters/mongo_intents.py",
        '            {"_id": {"$in": ids}} | still,\n',
        '            {"_id": {"$in": ids}},\n',
        ("tests/channel_sms/test_sending.py::test_of_two_who_saw_the_same_message_due_one_may_send_it",),
    ),
    Bug(
        "opt-out read once, before the claim",
        "P11",
        f"{SMS}/use_cases/send_due.py",
        "            if forgotten or left or declined:",
        "            if False and (left or declined):",
        ("tests/channel_sms/test_stops.py::test_who_opts_out_while_a_text_waits_is_not_sent_it",),
    ),
    Bug(
        "the contact's hours looked at once, at dispatch",
        "law 6",
        f"{SMS}/use_cases/send_due.py",
        "            elif objection := intent.objection(",
        "            elif False and intent.objection(",
        (
            "tests/channel_sms/test_given_back.py::test_what_the_contacts_hours_leave_no_time_for_is_given_back",
        ),
    ),
    Bug(
        "of two texts of the same words, one is taken for sent because the other was",
        "P5",
        f"{SMS}/use_cases/resolve_unknown.py",
        "        return free[0] if len(free) > alike else None",
        "        return free[0]",
        ("tests/channel_sms/test_in_doubt.py::test_nobody_guesses_which_of_two_alike_was_sent",),
    ),
    Bug(
        "no reply, although one is stored",
        "P3",
        f"{SMS}/use_cases/end_silent.py",
        "        silent = [c for c in overdue if c.their_address not in answered]",
        "        silent = list(overdue)",
        ("tests/channel_sms/test_webhooks.py::test_an_answer_that_nobody_has_worked_yet_was_in_time",),
    ),
    Bug(
        "a receipt of another message is believed",
        "P3",
        f"{SMS}/use_cases/work_receipts.py",
        'if intent.provider_message_id not in (None, row["sid"]):',
        "if False:",
        ("tests/channel_sms/test_webhooks.py::test_a_receipt_of_another_message_changes_nothing",),
    ),
    Bug(
        "a lease is counted from the database's answer",
        "P4",
        "shared/servicekit/src/servicekit/leases.py",
        "self._good_until = asked +",
        "self._good_until = time.monotonic() +",
        ("tests/servicekit/test_outbox.py::test_a_lease_is_counted_from_before_the_database_was_asked",),
    ),
    Bug(
        "counters that could not be announced are taken for announced",
        "P4",
        "services/stats/src/stats/use_cases/announce_counters.py",
        ' for mark in marks if failed.isdisjoint(mark["targets"])]',
        " for mark in marks]",
        ("tests/stats/test_recovery.py::test_counters_that_could_not_be_announced_stay_to_be_announced",),
    ),
    Bug(
        "a receipt moves backwards",
        "P3",
        f"{SMS}/domain/intent.py",
        "    return _RANK.get(told, 0) > _RANK.get(standing, 0)",
        "    return told != standing",
        ("tests/channel_sms/test_intents.py::test_receipts_only_move_a_status_forward",),
        quick=True,
    ),
    Bug(
        "each delivery of a webhook is a message of its own",
        "P4",
        f"{SMS}/webhooks.py",
        '                "_id": id_,\n                "sender": sender,',
        '                "_id": f"{id_}-{real_now().timestamp()}",\n                "sender": sender,',
        ("tests/channel_sms/test_webhooks.py::test_a_webhook_that_comes_five_times_gets_one_reply",),
    ),
    Bug(
        "follow-up with a random id",
        "P2",
        "services/workflow/src/workflow/domain/decision.py",
        'return ActivityId(stable_id("activity", completed.activity_id, place))',
        'return ActivityId(__import__("uuid").uuid4().hex)',
        ("tests/workflow/test_decision.py::test_the_same_completion_gives_the_same_bytes",),
        quick=True,
    ),
    Bug(
        "activity of a batch with a random id",
        "P2",
        "services/batch-loader/src/batch_loader/domain/page.py",
        'ActivityId(stable_id("activity", batch.batch_id, candidate.contact_id))',
        'ActivityId(__import__("uuid").uuid4().hex)',
        ("tests/batch_loader/test_batch.py::test_an_activity_of_a_batch_has_one_id_for_each_contact",),
        quick=True,
    ),
    Bug(
        "duplicate rule not atomic",
        "P2",
        f"{KIT}/verdict.py",
        'members: {"$size": 0}}',
        'members: {"$type": "array"}}',
        ("tests/activities/test_through_topics.py::test_of_two_that_saw_the_slot_empty_one_is_made",),
    ),
    Bug(
        "increment without the ledger",
        "P3",
        f"{STATS}/adapters/mongo_ledger.py",
        "        await self._write_rows(work.changed, session)\n",
        "",
        ("tests/stats/test_effects.py::test_repeats_and_older_versions_change_nothing",),
    ),
    Bug(
        "in and out swapped",
        "P3",
        f"{STATS}/domain/counters.py",
        'COUNT = {"incoming": "in", "outgoing": "out"}',
        'COUNT = {"incoming": "out", "outgoing": "in"}',
        ("tests/stats/test_effects.py::test_an_attempt_counts_in_total_and_in_its_channel",),
    ),
    Bug(
        "the result of a lost claim settles a newer one",
        "P1",
        f"{SMS}/use_cases/settle_sends.py",
        "            if intent.claim == settling.intent.claim and is_open_to(",
        "            if is_open_to(",
        (
            "tests/channel_sms/test_sending.py"
            "::test_a_result_that_lost_its_claim_settles_nothing_of_a_newer_one",
        ),
    ),
    Bug(
        "texts that were sent twice are not told",
        "P1",
        "cli/src/cli/accounts.py",
        'journal["twice"]',
        "0",
        ("tests/cli/test_accounts.py::test_what_the_carrier_was_given_twice_is_told",),
        quick=True,
    ),
    Bug(
        "who comes while a batch is loaded joins it",
        "P2",
        "services/batch-loader/src/batch_loader/use_cases/load_batches.py",
        "batch.loading_since or now",
        "now",
        ("tests/batch_loader/test_loading.py::test_pause_stops_resume_goes_on_and_repeats_change_nothing",),
    ),
    Bug(
        "what waits is overtaken where a batch failed",
        "P2",
        f"{KIT}/pipeline.py",
        "                waiting.add(delivery.record.key)\n",
        "                pass\n",
        ("tests/servicekit/test_delivery.py::test_where_a_batch_failed_each_key_keeps_its_order",),
        quick=True,
    ),
    Bug(
        "a look-up reads the first page only",
        "P1",
        f"{SMS}/providers/twilio.py",
        'if not page.get("next_page_uri"):',
        "if True:",
        ("tests/channel_sms/test_in_doubt.py::test_a_look_up_turns_every_page",),
        quick=True,
    ),
    Bug(
        "a row that does not count meets no erasure",
        "P12",
        f"{STATS}/adapters/mongo_ledger.py",
        "for target in tally.met - moved:",
        "for target in ():",
        ("tests/stats/test_merges.py::test_what_does_not_count_is_not_kept_for_who_is_gone_either",),
    ),
    Bug(
        "the hours of an unknown zone end with its last",
        "law 6",
        "services/activities/src/activities/domain/gate.py",
        "return min(next_closing(",
        "return max(next_closing(",
        ("tests/activities/test_gate.py::test_the_hours_of_an_unknown_zone_end_where_they_end_first",),
        quick=True,
    ),
    Bug(
        "a purge keeps the reasons that people gave",
        "P12",
        "services/activities/src/activities/domain/moves.py",
        '"reason": in_our_words(activity.reason, *_OUR_BEGINNINGS),',
        '"reason": activity.reason,',
        ("tests/activities/test_moves.py::test_purging_keeps_of_a_reason_what_is_in_our_own_words",),
        quick=True,
    ),
)
