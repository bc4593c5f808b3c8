"""What a short text means, as far as rules can tell. Law and carriers ask for more than a keyword match."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum


class Meaning(StrEnum):
    OPT_OUT = "opt_out"
    OPT_IN = "opt_in"
    HELP = "help"
    ORDINARY = "ordinary"


class Leaning(StrEnum):
    YES = "yes"
    NO = "no"
    PERSON = "person"
    """Asks for a human being."""
    UNCLEAR = "unclear"


_OPT_OUT_WORDS = frozenset(
    {
        "stop", "stopall", "stop it", "stop this", "stop that", "unsubscribe", "unsubscribed", "cancel",
        "end", "quit", "revoke", "optout", "opt out", "remove me", "take me off",
    }
)  # fmt: skip
_OPT_IN_WORDS = frozenset({"start", "unstop"})
_HELP_WORDS = frozenset({"help", "info"})
_COURTESY = frozenset(
    {"please", "pls", "plz", "thanks", "thank", "you", "now", "all", "ok", "okay", "hey", "hi"}
)

_OPT_OUT_PHRASES = re.compile(
    r"\b(?:"
    r"(?:stop|quit) (?:texting|messaging|contacting|sending|sms|spamming|bothering)(?! you)"
    r"|stop (?:these|the|all|your|those|any) (?:\w+ )?(?:texts?|messages?|sms|spam)"
    r"|(?<!bus )(?<!the )stop (?:(?:text|sms|marketing|automated|getting|receiving) )?"
    r"(?:texts|messages|sms|spam)\b"
    r"|stop this (?:\w+ )?(?:texts?|messages?|sms|spam)\b(?! (?:problem|issue|thread))"
    r"|(?:^|you to |just |please |said |and |ok )stop it(?: now| please| already)*$"
    r"|(?:told|asked|telling|asking) you to stop(?: now| please| already)*$"
    r"|wrong number (?:please )?stop"
    r"|(?:do not|dont|never) (?:ever )?(?:text|message|contact|sms|write to|write) (?:me|us|this|my)"
    r"|(?<!\bi )(?<!\bwe )(?<!\byou )(?<!\bthey )(?<!\busually )(?:do not|dont) (?:ever )?"
    r"(?:text|message|contact|sms)(?: (?:again|anymore|any more|please))*$"
    r"|no more (?:texts?|messages?|sms|of these (?:texts?|messages?))"
    r"|unsubscribe (?:me|us|from|this)"
    r"|opt (?:me|us) out|opt out|optout"
    r"|(?:take|remove|delete) (?:me|us|my (?:phone )?number|this number|my name) (?:off|from)"
    r"|(?:remove|delete) (?:my|this) (?:phone )?number"
    r"|leave me alone"
    r"|i (?:do not|dont) want (?:any |to (?:get|receive) )?(?:any )?(?:more )?(?:of )?"
    r"(?:your |these )?(?:texts?|messages?|sms)"
    r"|(?:i )?(?:want|would like|wish) to (?:unsubscribe|opt out)"
    r")"
)
_KEYWORDS_APART = frozenset({"stop", "stopall", "unsubscribe", "optout", "opt out", "stop it", "remove me"})
"""Opt out as a sentence or a line of their own, whatever the others say."""
_APART = re.compile(
    r"[.,;:!?()*\"\n\u2026\u2014\u2013\u201c\u201d]|(?i:(?<=\bstop))-(?!(?:and|gap|by|over|off|start|sign|motion)\b)|-(?!\w)"
)
_IMPATIENT = frozenset({"just", "already", "no"})
_NEGATED = re.compile(
    r"\b(?:do not|dont|never|not) (?:(?:want|wish) (?:you )?to )?(?:opt|unsubscribe|stop)\b"
)
_PERSON = re.compile(
    r"\b(?:human|real person|live person|live agent|representative|call me|speak to|talk to"
    r"|somebody real|someone real|operator|manager)\b"
)
_YES = frozenset(
    {
        "yes", "y", "yep", "yeah", "yup", "sure", "ok", "okay", "of course", "absolutely", "definitely",
        "certainly", "please do", "go ahead", "sounds good", "agreed", "i agree", "correct", "right",
        "yes please", "yes sure", "sure thing", "count me in", "im in", "interested", "im interested",
        "ja", "oui", "si",
    }
)  # fmt: skip
_NO = frozenset(
    {
        "no", "n", "nope", "nah", "no thanks", "no thank you", "not interested", "im not interested",
        "not now", "not today", "no way", "never", "i do not", "i dont", "dont", "nein", "non",
    }
)  # fmt: skip
_YES_START = re.compile(r"^(?:yes|yep|yeah|yup|sure|absolutely|definitely|of course)\b")
_NO_START = re.compile(r"^(?:no|nope|nah|not interested|im not interested)\b")
_NOT_WORDS = re.compile(r"[^\w\s]|_")
_APOSTROPHES = re.compile(r"['`\u00b4\u2018\u2019\u02bc]")
_SPACES = re.compile(r"\s+")


def plain(text: str) -> str:
    """Lower case, no punctuation, single spaces, `don't` as `dont`."""
    folded = unicodedata.normalize("NFKC", _APOSTROPHES.sub("", text)).casefold().replace("-", " ")
    return _SPACES.sub(" ", _NOT_WORDS.sub(" ", folded)).strip()


def meaning_of(text: str, more_opt_out_words: Iterable[str] = ()) -> Meaning:
    """Opt-outs are found first and widely; the whole message must be the keyword for the other two.

    >>> meaning_of("Stop!"), meaning_of("We have to stop this bill")
    (<Meaning.OPT_OUT: 'opt_out'>, <Meaning.ORDINARY: 'ordinary'>)
    """
    said = plain(text)
    if all(len(word) == 1 for word in said.split()):
        said = said.replace(" ", "")  # S.T.O.P
    bare, signed = _bare(said), _bare(plain(text.strip().partition("\n")[0]))
    asked = _says_opt_out(said, bare, more_opt_out_words) or signed in _OPT_OUT_WORDS
    if asked or any(map(_opts_out_apart, _parts(text))):
        return Meaning.OPT_OUT
    if bare in _OPT_IN_WORDS:
        return Meaning.OPT_IN
    if bare in _HELP_WORDS:
        return Meaning.HELP
    return Meaning.ORDINARY


def _bare(said: str) -> str:
    return " ".join(word for word in said.split() if word not in _COURTESY) or said


def _parts(text: str) -> Iterator[str]:
    """Sentences, lines, and what is set apart in them."""
    return filter(None, map(plain, _APART.split(unicodedata.normalize("NFKC", text))))


def _opts_out_apart(part: str) -> bool:
    bare = " ".join(word for word in _bare(part).split() if word not in _IMPATIENT)
    return bare in _KEYWORDS_APART or _asks_to_stop(part)


def _says_opt_out(said: str, bare: str, more: Iterable[str]) -> bool:
    if said in _OPT_OUT_WORDS or bare in _OPT_OUT_WORDS:
        return True
    if {"stop"} <= set(bare.split()) - _IMPATIENT <= {"stop", "stopall"} or bare == "stopall":
        return True
    for word in map(plain, more):
        if word and (word in (said, bare) or (" " in word and f" {word} " in f" {said} ")):
            return True
    return _asks_to_stop(said)


def _asks_to_stop(said: str) -> bool:
    return bool(_OPT_OUT_PHRASES.search(said)) and not _NEGATED.search(said)


def leaning(text: str) -> Leaning:
    """Whether a person agrees. A question is never agreement."""
    said = plain(text)
    if _PERSON.search(said):
        return Leaning.PERSON
    if said in _NO:
        return Leaning.NO
    if said in _YES:
        return Leaning.YES
    if "?" in text:
        return Leaning.UNCLEAR
    if _NO_START.search(said):
        return Leaning.NO
    if _YES_START.search(said) and not re.search(r"\b(?:but|not|no|dont)\b", said):
        return Leaning.YES
    return Leaning.UNCLEAR
