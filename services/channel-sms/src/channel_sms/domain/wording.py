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
    LEAVING = "leaving"
    """May want no more texts, in words that are no clear opt-out: a person looks."""
    UNCLEAR = "unclear"


_OPT_OUT_WORDS = frozenset(
    {
        "stop", "stopall", "stop it", "stop this", "stop that", "stop text", "unsubscribe", "unsubscribed",
        "cancel", "end", "quit", "revoke", "optout", "opt out", "remove me", "take me off",
    }
)  # fmt: skip
_OPT_IN_WORDS = frozenset({"start", "unstop"})
_HELP_WORDS = frozenset({"help", "info"})
_COURTESY = frozenset(
    {"please", "pls", "plz", "thanks", "thank", "thx", "you", "now", "all", "ok", "okay", "hey", "hi"}
)

_URGENCY = re.compile(
    r"\b(?:right (?:now|away)|at once|for good|this (?:instant|minute|second)|very much|so much|a lot"
    r"|immediately|asap|forever|permanently|completely|today|tonight|then|everything|already|just|kindly"
    r"|yes|yeah|yep|no|sir|madam|maam|mam|miss|mister|guys|dude|bro|man|folks|people|alright|again)\b"
)
"""What a keyword may be said with and still be nothing but the keyword."""

_OPT_OUT_PHRASES = re.compile(
    r"\b(?:"
    r"(?:stop|quit) (?:texting|messaging|contacting|sending|sms|spamming|bothering)(?! you)"
    r"|stop (?:these|the|all|your|those|any) (?:\w+ )?(?:texts?|messages?|sms|spam)"
    r"|(?<!bus )(?<!the )stop (?:(?:text|sms|marketing|automated|getting|receiving) )?"
    r"(?:texts|messages|sms|spam)\b"
    r"|stop this (?:\w+ )?(?:texts?|messages?|sms|spam)\b(?! (?:problem|issue|thread))"
    r"|(?:^|(?:^|i said |(?:and|but|or|so|no|(?<!do )you|number|landline|busy|thanks|please) )just |you to "
    r"|you need to |u need to |you should |can you |would you |please |i said |and |ok |but |seriously "
    r"|omg |guys |it )stop it(?: now| please| already)*$"
    r"|(?<!never )(?<!not )(?<!nobody )(?<!didnt )(?<!havent )(?<!remember )"
    r"(?:told|asked|tell|ask|telling|asking) you to stop\b(?! (?:by|at|in|over|for)\b)"
    r"|(?<!not )(?<!dont )(?<!never )(?:want|need|like) you to stop"
    r"(?: it| this| now| please| immediately| right now)*$"
    r"|i (?:said|told you) stop$"
    r"|wrong number (?:please |pls )?stop|^stop wrong number"
    r"|(?:do not|dont|never) (?:ever )?(?:text|message|contact|sms|write to|write) (?:me|us|this|my)"
    r"|(?:^|(?:^|please |pls |said |no |ok |thanks |told you )just |told you "
    r"|(?<!like )(?<!around )(?<!of )(?!(?:i|we|they|you|u|yall|who|people|folks|guys|women|men|children"
    r"|just|really|usually|normally|simply|still|even|also|and|or|but)\b)"
    r"(?:thanks|pls|this|\w*[^\Ws]) "
    r"|(?:no|busy|work|stop|unsubscribe|cancel|calling|landline|number|this|thanks|again|interested|me|in) "
    r"(?:and|or|but|so) )"
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
    r"|(?:revoke|withdraw) (?:my |all )?consent\b(?! form\b)"
    r")"
)
_KEYWORDS_APART = frozenset({"stop", "stopall", "unsubscribe", "stop it", "remove me"})
"""Opt out as a sentence or a line of their own, whatever the others say."""
_ENDS = r"\.(?=\s|$)|[,;:!?)\u2026]"
_PAUSES = (
    r"[\n(\u2014\u2013]"
    r"|(?i:(?<=\bstop))-(?!(?:and|gap|by|over|off|start|sign|motion|loss|light)\b)|-(?!\w)"
)
_APART = re.compile(f"{_ENDS}|{_PAUSES}")
_GOES_ON = re.compile(
    r"\b((?:please|pls) (?:do not|dont)(?= \| (?:opt|unsubscribe|stop)\b)"
    r"|(?:want|wish) you to(?= \| (?:opt|unsubscribe|stop)\b)"
    r"|(?:want|wish) to(?= \| (?:opt|unsubscribe)\b)|i (?:do not|dont)(?= \| (?:want|wish) to\b)) \| "
)
"""What a line or a dash does not end: who says no more than this has not said yet what not to do."""
_MORE = re.compile(r"n?or\b")
"""How a clause begins, behind a comma, that goes on with what the one before does not want."""
_UNWANTED = re.compile(
    r"(?:i |please |pls )*(?:do not|dont|never) (?:(?:want|wish) (?:you )?to )?"
    r"(?:(?:unsubscribe|stop)\b|opt\b(?! in\b))"
)
"""How somebody begins who does not want to be left out; who complains begins with `you`."""
_SIGNED = re.compile(r"\s*(?:\n|sent from\b|get outlook\b|--)", re.IGNORECASE)
"""How what is under a text begins that is no part of it."""
_IMPATIENT = frozenset({"just", "already", "no"})
_NEGATED = re.compile(
    r"^(?:i |please |pls )*(?:do not|dont|never) (?:(?:want|wish) (?:you )?to )?"
    r"(?:(?:unsubscribe|stop|remove|take|delete)\b|opt\b(?! in\b))((?: \w+){0,8}) "
    r"(?:n?or|and (?:do not|dont)) (?:opt|unsubscribe|stop|remove|take|delete)\b"
    r"|\b(?:(?:do not|dont|never|not) (?:(?:want|wish|ask|asked) (?:you )?to )?(?:opt|unsubscribe|stop)"
    r"|(?<!you )(?:do not|dont|did not|didnt|not|never|wont|havent) (?:ever )?"
    r"(?:(?:want|wish) to )?(?:revoke|withdraw)"
    r"|(?:^|please |pls )(?:do not|dont) (?:remove|take|delete))\b"
)
"""Whoever wishes it goes on with `or`; who complains of us begins otherwise."""
_LEAVING = re.compile(
    r"\b(?:stop(?:ped)?|unsubscribed?|opt(?:ed)? out|optout|leave me|remove me|take me off)\b"
)
_SHORT = 6
"""Words. Who writes more than that says what else it is about."""
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
_TXT = re.compile(r"\btxt(?=(?:s|ing)?\b)")
_SPACES = re.compile(r"\s+")


def plain(text: str) -> str:
    """Lower case, no punctuation, single spaces, `don't` as `dont`, `txt` as `text`."""
    words = _NOT_WORDS.sub(" ", _folded(text).casefold().replace("-", " "))
    return _SPACES.sub(" ", _TXT.sub("text", words)).strip()


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
    asked = _says_opt_out(said, bare, more_opt_out_words) or any(map(_asks_to_stop, _clauses(text)))
    signed = bool(_SIGNED.match(under)) and _bare(plain(first)) in _OPT_OUT_WORDS
    if asked or signed or any(map(_is_keyword, _split(_APART, _folded(text)))):
        return Meaning.OPT_OUT
    if bare in _OPT_IN_WORDS:
        return Meaning.OPT_IN
    if bare in _HELP_WORDS:
        return Meaning.HELP
    return Meaning.ORDINARY


def _bare(said: str) -> str:
    return " ".join(word for word in said.split() if word not in _COURTESY) or said


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", _APOSTROPHES.sub("", text))


def _split(at: str | re.Pattern[str], text: str) -> Iterator[str]:
    return filter(None, map(plain, re.split(at, text)))


def _clauses(text: str) -> Iterator[str]:
    """What stands between commas, dashes or ends of lines: none takes back what another asks for."""
    before = mark = ""
    for written in re.split(f"({_ENDS})", _folded(text)):
        if re.fullmatch(_ENDS, written):
            mark = written
            continue
        clause = " | ".join(_split(_PAUSES, written))
        if mark == "," and _MORE.match(clause) and _UNWANTED.match(before):
            before = f"{before} {clause}"
            continue
        yield from _GOES_ON.sub(r"\1 ", before).split(" | ")
        before = clause
    yield from _GOES_ON.sub(r"\1 ", before).split(" | ")


def _is_keyword(part: str) -> bool:
    return " ".join(word for word in _bare(part).split() if word not in _IMPATIENT) in _KEYWORDS_APART


def _says_opt_out(said: str, bare: str, more: Iterable[str]) -> bool:
    urged = _bare(" ".join(_URGENCY.sub("", said).split()))
    if not _OPT_OUT_WORDS.isdisjoint((said, bare, urged)):
        return True
    if {"stop"} <= set(bare.split()) - _IMPATIENT <= {"stop", "stopall"} or bare == "stopall":
        return True
    for word in map(plain, more):
        if word and (word in (said, bare) or (" " in word and f" {word} " in f" {said} ")):
            return True
    return _asks_to_stop(said)


def _asks_to_stop(said: str) -> bool:
    """A negation takes back what it stands before, and nothing else."""
    return bool(_OPT_OUT_PHRASES.search(_NEGATED.sub(r"|\1|", said)))


def leaning(text: str) -> Leaning:
    """Whether a person agrees. A question is never agreement, and neither is what may be an opt-out."""
    said = plain(text)
    if _PERSON.search(said):
        return Leaning.PERSON
    leaving = bool(_LEAVING.search(said))
    if leaving and len(said.split()) <= _SHORT:
        return Leaning.LEAVING
    if said in _NO:
        return Leaning.NO
    if said in _YES:
        return Leaning.YES
    if "?" in text:
        return Leaning.UNCLEAR
    if _NO_START.search(said):
        return Leaning.NO
    if _YES_START.search(said) and not leaving and not re.search(r"\b(?:but|not|no|dont)\b", said):
        return Leaning.YES
    return Leaning.UNCLEAR
