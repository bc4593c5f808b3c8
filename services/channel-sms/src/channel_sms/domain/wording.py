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
    r"|(?:^|^just |i said just |you to |you need to |u need to |you should |can you |would you |please "
    r"|i said |and |ok |but |seriously |omg |guys |it )stop it(?: now| please| already)*$"
    r"|(?<!never )(?<!not )(?<!nobody )(?<!didnt )(?<!havent )(?<!remember )"
    r"(?:told|asked|tell|ask|telling|asking) you to stop\b(?! (?:by|at|in|over|for)\b)"
    r"|i (?:said|told you) stop$"
    r"|wrong number (?:please |pls )?stop|^stop wrong number"
    r"|(?:do not|dont|never) (?:ever )?(?:text|message|contact|sms|write to|write) (?:me|us|this|my)"
    r"|(?:^|please |pls |^just |said |no |ok |thanks |number |person |landline |again |interested )"
    r"(?:do not|dont) (?:ever )?(?:text|message|contact|sms)(?: (?:again|anymore|any more|please))*$"
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
_KEYWORDS_APART = frozenset({"stop", "stopall", "unsubscribe", "stop it", "remove me"})
"""Opt out as a sentence or a line of their own, whatever the others say."""
_APART = re.compile(
    r"\.(?=\s|$)|[,;:!?()\n\u2026\u2014\u2013]"
    r"|(?i:(?<=\bstop))-(?!(?:and|gap|by|over|off|start|sign|motion|loss|light)\b)|-(?!\w)"
)
_SENTENCES = re.compile(r"\.(?=\s|$)|[;:!?]")
"""Less than that: what negates a phrase may stand in another line, or behind a comma or a dash."""
_SIGNED = re.compile(r"\s*(?:\n|sent from\b|get outlook\b|--)", re.IGNORECASE)
"""How what is under a text begins that is no part of it."""
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
    bare = _bare(said)
    first, _, under = text.strip().partition("\n")
    asked = _says_opt_out(said, bare, more_opt_out_words) or any(map(_asks_to_stop, _split(_SENTENCES, text)))
    signed = bool(_SIGNED.match(under)) and _bare(plain(first)) in _OPT_OUT_WORDS
    if asked or signed or any(map(_is_keyword, _split(_APART, text))):
        return Meaning.OPT_OUT
    if bare in _OPT_IN_WORDS:
        return Meaning.OPT_IN
    if bare in _HELP_WORDS:
        return Meaning.HELP
    return Meaning.ORDINARY


def _bare(said: str) -> str:
    return " ".join(word for word in said.split() if word not in _COURTESY) or said


def _split(at: re.Pattern[str], text: str) -> Iterator[str]:
    whole = unicodedata.normalize("NFKC", _APOSTROPHES.sub("", text))
    return filter(None, map(plain, at.split(whole)))


def _is_keyword(part: str) -> bool:
    return " ".join(word for word in _bare(part).split() if word not in _IMPATIENT) in _KEYWORDS_APART


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
