"""What people write back: pure, and the same for the same seed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

from carrier.behaviour import Behaviour, Persona

_OPTIONS = re.compile(r"[(:]\s*([^()?:]+?(?:,|/|\bor\b)[^()?:]+?)\s*[)?.]")
_SEPARATOR = re.compile(r"\s*(?:,|/|\bor\b)\s*", re.IGNORECASE)
_YES_OR_NO = re.compile(
    r"\byes\b|^\W*(?:do|are|is|would|can|could|have|may|shall|will)\b"
    r"|\b(?:would|do|are|can|may|shall|could|will) (?:you|we|i)\b"
)


def reply(behaviour: Behaviour, number: str, text: str, position: int) -> str | None:
    """What the person at `number` answers to `text`, the `position`-th message they got from us (from 1)."""
    persona = behaviour.persona(number)
    match persona:
        case Persona.SILENT:
            return None
        case Persona.STOP:
            return "STOP" if position == 1 else None
        case Persona.NO:
            return "No thanks"
        case Persona.QUESTION if position == 1:
            return "Who is this?"
        case Persona.ANSWERS:
            return _sentence(answer(text, lambda *of: behaviour.draw(number, *of)))
        case _:
            return answer(text, lambda *of: behaviour.draw(number, *of))


def answer(text: str, draw: Callable[..., float]) -> str:
    """Something that fits the question, as far as a stranger can tell."""
    asked = text.lower()
    if _YES_OR_NO.search(asked):
        return "Yes"
    if found := _OPTIONS.search(text):
        options = [option for option in _SEPARATOR.split(found[1]) if option]
        return options[int(draw("option", text) * len(options))]
    if "how many" in asked or "how much" in asked or "number of" in asked:
        return str(1 + int(draw("count", text) * 5))
    if "mail" in asked:
        return f"person{int(draw('mail') * 1000)}@example.com"
    if "what time" in asked:
        return f"{9 + int(draw('time', text) * 8):02}:30"
    if "date" in asked or "when" in asked or "day" in asked:
        return (date(2027, 1, 4) + timedelta(days=int(draw("date", text) * 300))).isoformat()
    if "zip" in asked or "postcode" in asked or "postal" in asked:
        return "30301"
    if "name" in asked:
        return "Alex Example"
    return "Yes" if "?" not in text else "The usual, please"


def _sentence(words: str) -> str:
    return "Yes, sure" if words == "Yes" else words
