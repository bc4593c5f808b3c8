"""An agent of rules: hears yes or no, asks the subject's questions in order, needs no network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from channel_sms.domain.dialogue import Answer, Conclude, Dialogue, HandOver, Say, Turn
from channel_sms.domain.wording import Leaning, leaning, plain
from contracts.campaigns import Question, SubjectChanged
from servicekit.json_schema import judge_of

_TRIES = 2
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_NUMBER_WORDS = {
    word: number
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_NO_NUMBER = 2.0**53
"""From here on a number is not what was written any more, and soon none that a database takes."""

CLARIFICATION = "Sorry, I did not get that. Please answer YES or NO, or HUMAN to talk to a person. {opening}"
AGAIN = "Sorry, I did not get that. {question}"


class ScriptedAgent:
    async def answer(self, turn: Turn) -> Answer:
        return respond(turn)


def respond(turn: Turn) -> Answer:
    """Pure: the same turn always gets the same answer."""
    heard = leaning(turn.text)
    if heard is Leaning.PERSON:
        return HandOver("asked for a person", turn.dialogue)
    if heard is Leaning.LEAVING:
        return HandOver("may want no more texts", turn.dialogue)
    if not turn.dialogue.agreed:
        return _opening_answered(turn, heard)
    return _question_answered(turn, heard)


def _opening_answered(turn: Turn, heard: Leaning) -> Answer:
    match heard:
        case Leaning.YES:
            return _go_on(turn, turn.dialogue.evolve(agreed=True, misunderstood=0))
        case Leaning.NO:
            return _conclude(turn, turn.subject.no_disposition, turn.dialogue, "The contact declined.")
        case _:
            return _ask_again(turn, CLARIFICATION.replace("{opening}", turn.opening))


def _question_answered(turn: Turn, heard: Leaning) -> Answer:
    question = _question(turn.subject, turn.dialogue.asked)
    if question is None:
        return _go_on(turn, turn.dialogue)
    schema = field_schema(turn.subject, question.field)
    value = understood(turn.text, schema)
    if value is not None:
        captured = {**turn.dialogue.captured, question.field: value}
        return _go_on(turn, turn.dialogue.evolve(captured=captured, asked=None, misunderstood=0))
    if heard is Leaning.NO:
        return _conclude(turn, turn.subject.no_disposition, turn.dialogue, "The contact changed their mind.")
    return _ask_again(turn, AGAIN.replace("{question}", question.text))


def _go_on(turn: Turn, dialogue: Dialogue) -> Answer:
    question = next((q for q in turn.subject.questions if q.field not in dialogue.captured), None)
    if question is None:
        return _conclude(turn, turn.subject.yes_disposition, dialogue, "The contact agreed.")
    return _say(turn, question.text, dialogue.evolve(asked=question.field))


def _ask_again(turn: Turn, text: str) -> Answer:
    misunderstood = turn.dialogue.misunderstood + 1
    dialogue = turn.dialogue.evolve(misunderstood=misunderstood)
    if misunderstood >= _TRIES:
        return HandOver("not understood", dialogue)
    return _say(turn, text, dialogue)


def _say(turn: Turn, text: str, dialogue: Dialogue) -> Answer:
    if dialogue.turns >= turn.max_turns:
        return HandOver("turn limit", dialogue)
    return Say(text, dialogue.evolve(turns=dialogue.turns + 1))


def _conclude(turn: Turn, disposition: str | None, dialogue: Dialogue, summary: str) -> Answer:
    if disposition is None or disposition not in turn.allowed:
        return HandOver(f"may not pick {disposition}" if disposition else "no disposition to pick", dialogue)
    fields = ", ".join(dialogue.captured)
    return Conclude(disposition, f"{summary} Captured: {fields}." if fields else summary, dialogue)


def _question(subject: SubjectChanged, field: str | None) -> Question | None:
    return next((question for question in subject.questions if question.field == field), None)


def field_schema(subject: SubjectChanged, field: str) -> Mapping[str, Any]:
    schema = subject.data_schema.get("properties", {}).get(field, {})
    return schema if isinstance(schema, Mapping) else {}


def understood(text: str, schema: Mapping[str, Any]) -> Any:
    """The value of a field in what somebody wrote, valid by its schema; None when there is none."""
    validator = judge_of(schema)
    for candidate in _candidates(text.strip(), schema):
        if candidate is not None and validator.is_valid(candidate):
            return candidate
    return None


def _candidates(text: str, schema: Mapping[str, Any]) -> list[Any]:
    if "enum" in schema:
        return _choices(text, schema["enum"])
    types = schema.get("type", "string")
    kinds = [types] if isinstance(types, str) else list(types)
    candidates: list[Any] = []
    for kind in kinds:
        match kind:
            case "boolean":
                heard = leaning(text)
                candidates.append({Leaning.YES: True, Leaning.NO: False}.get(heard))
            case "integer" | "number":
                candidates.extend(_numbers(text, whole=kind == "integer"))
            case "string":
                candidates.extend(_strings(text, schema.get("format")))
    return candidates


def _choices(text: str, choices: list[Any]) -> list[Any]:
    said = f" {plain(text)} "
    found = [choice for choice in choices if f" {plain(str(choice))} " in said]
    exact = [choice for choice in found if plain(str(choice)) == said.strip()]
    return exact or (found if len(found) == 1 else [])


def _numbers(text: str, *, whole: bool) -> list[Any]:
    found = [float(number.replace(",", ".")) for number in _NUMBER.findall(text)]
    found += [float(_NUMBER_WORDS[word]) for word in plain(text).split() if word in _NUMBER_WORDS]
    if len(found) != 1 or not -_NO_NUMBER < found[0] < _NO_NUMBER:
        return []
    return [int(found[0]) if found[0].is_integer() else None] if whole else [found[0]]


def _strings(text: str, format_: str | None) -> list[str]:
    match format_:
        case "date":
            return _DATE.findall(text)
        case "email":
            return _EMAIL.findall(text)
        case _:
            return [text] if text else []
