from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel_sms.domain.wording import Leaning, Meaning, leaning, meaning_of

KEYWORDS = (
    "stop",
    "stopall",
    "unsubscribe",
    "cancel",
    "end",
    "quit",
    "revoke",
    "optout",
    "opt out",
    "opt-out",
)
EDGES = st.text(alphabet=" .,!?\n\t\"'…-*", max_size=6)


@st.composite
def any_case(draw: st.DrawFn, words: tuple[str, ...]) -> str:
    word = draw(st.sampled_from(words))
    return "".join(c.upper() if draw(st.booleans()) else c for c in word)


@given(EDGES, any_case(KEYWORDS), EDGES)
def test_a_keyword_opts_out_in_any_case_and_punctuation(before: str, word: str, after: str) -> None:
    assert meaning_of(before + word + after) is Meaning.OPT_OUT


@pytest.mark.parametrize(
    "text",
    [
        "Please stop",
        "STOP please!!",
        "stop stop stop",
        "Stop texting me",
        "please stop sending me these",
        "don't text me again",
        "Don\u2019t contact me any more",
        "do not message me",
        "take me off your list",
        "remove my number",
        "Remove me from this list please",
        "unsubscribe me",
        "I want to opt out",
        "Opt me out now",
        "no more texts please",
        "leave me alone",
        "I don't want any more messages",
        "i dont want to receive these messages",
        "Stop all messages",
        "Stop it",
        "Stop it now!",
        "stop this please",
        "stop messages",
        "Stop text messages",
        "please stop texts",
        "remove me",
        "do not text",
        "Please don't contact again",
        "Unsubscribed",
        "S.T.O.P",
        "Stop, I said no",
        "STOP! Who gave you my number?",
        "STOP? who is this",
        "STOP\nSent from my phone",
        "\uff33\uff34\uff2f\uff30\uff01 who is this",
        "UNSUBSCRIBE. I never signed up",
        "just stop it please",
        "I told you to stop it now",
        "Just stop",
        "No. Stop.",
        "stop already",
        "wrong number stop",
        "wrong person, do not text again",
        "No, do not text",
        "I said don't text",
        "ok thanks please don't text",
        "This is a landline. Do not text",
        "stop this spam please",
        "stop this message, I never signed up",
        "please stop this text message",
        "I don't want you to stop by. Stop texting me",
        "You do not stop texting me! Leave me alone",
        "Wrong number, please stop",
        "I told you to stop",
        "Who is this? STOP.",
        "I'm not interested, stop",
        "Please stop\nSent from my phone",
        "(STOP) who is this",
        "CANCEL\nSent from my phone",
        "Hello\n\nSTOP",
        "you need to stop it",
        "I said stop",
        "I've asked you to stop multiple times",
        "stop wrong number",
        "STOP-I never signed up",
        "I did not opt in, stop texting me",
        "I did not opt in stop texting me",
        "You keep texting and do not remove me from your list",
        "You people don't take me off your list",
        "u dont take me off your list",
        "If u dont remove me from your list I will report you",
        "You still don't remove my number",
        "yall dont take me off your list",
        "I'm at work don't text",
        "Kindly don't text again",
        "He passed away don't text",
        "sorry dont text",
        "Stop calling and dont text",
        "pls don't text",
        "I told you don't text",
        "I told you just stop it",
        "Don't text, or I call a lawyer",
        "I revoke my consent for texts",
        "I withdraw my consent for you to text me",
        "If you don't stop, or take me off your list, I'll report you",
        "You do not stop, or remove me from your list",
        "I did not opt in, or stop texting me",
        "I never asked to opt in or stop texting me",
        "I beg you just stop it",
        "Call my lawyer or just stop it",
        "please just don't text",
        "I said just don't text",
        "Number changed so don't text",
        "I cannot revoke my consent on your site, do it for me",
        "If you wont revoke my consent I will sue",
        "I did not opt in and you never stop texting me or remove me from your list",
        "You did not revoke my consent or delete my number",
        "If you do not revoke my consent or remove me from your list I will sue",
        "Can you just stop it",
        "I did not opt in leave me alone or delete my number",
        "I did not opt in to this\nStop texting me",
        "I did not opt in - stop texting me",
        "I did not opt in to these messages, unsubscribe me",
        "I never opt in to this stuff, take me off your list",
        "I will not opt in, no more texts",
        "I do not want to opt in, do not text me again",
        "You did not stop, leave me alone",
        "I don't want to, stop texting me",
        "I'd rather not \u2014 unsubscribe me",
        "Please don't. Stop the messages",
        "Do not text\nThanks",
        "I am busy, don't text",
        "I told you, just stop it, thanks",
        "this is a landline so don't text",
        "Unsubscribe me and don't text",
        "I revoke my consent",
        "I hereby withdraw consent to be texted",
        "Stop thx",
        "STOP TXT",
        "stop text",
        "dont txt me",
        "Please stop immediately",
        "stop right now",
        "STOP thank you very much",
        "unsubscribe immediately",
        "remove me immediately",
        "yes please stop",
        "stop at once",
        "stop asap",
        "stop forever",
        "stop today",
        "kindly stop",
        "stop then",
        "cancel immediately",
        "STOP sir",
        "stop everything",
        "I want you to stop",
        "I need you to stop this right now",
        "no stop already man",
    ],
)
def test_plain_language_opts_out(text: str) -> None:
    assert meaning_of(text) is Meaning.OPT_OUT


@pytest.mark.parametrize(
    "text",
    [
        "We have to stop this bill",
        "Can you stop by tomorrow?",
        "Stop by and text me",
        "Sorry, I don't text",
        "you don't text anymore",
        "We do not sms",
        "Stop-and-go traffic, running late",
        "stop-gap plan is fine",
        "We have to stop this spam problem at work",
        "I don't want you to stop messages",
        "the bus stop messages are wrong",
        "Just start",
        "We have to stop it",
        "I don\u00b4t want to opt out",
        "I do not want to\nopt out",
        "Please do *not* unsubscribe me",
        "Please don't \u2014 stop the messages",
        "please don't\nopt me out",
        "I don't want you to\nstop the messages",
        "I do not\nwant to opt out",
        "do not stop texting me",
        "please don't opt me out",
        "do not opt me out or unsubscribe me",
        "please don't remove me from the list",
        "I don't want to unsubscribe or opt out",
        "do not stop the messages or remove my number",
        "do not stop messages and do not remove me from the list",
        "please do not just stop it",
        "I don't wish to revoke my consent",
        "Can you txt me later",
        "I never asked you to stop, keep going",
        "I don't remember telling you to stop",
        "My kids don't text",
        "People like me don't text",
        "Phones like this dont text",
        "Most of us don't text",
        "I dont text",
        "I don't want you to stop",
        "I want you to stop by tomorrow",
        "end of today",
        "right at the end",
        "no people to cancel today's table for",
        "I drive and don't text",
        "How do you just stop it",
        "I didn't revoke my consent",
        "I won't withdraw my consent",
        "do not ever revoke my consent",
        "can you withdraw consent form from my file?",
        "I do not want to unsubscribe, or opt out",
        "Please do not stop texting me, or take me off the list",
        "Please don't (opt me out)",
        "do not stop sending me the weekly specials or remove me from the list",
        "I do not want to opt out and I did not ask to opt out",
        "I just don't text",
        'What does "stop" mean?',
        'What happens if I reply "STOP"?',
        "Cancel\nthe Tuesday appointment, keep Friday",
        "www.stop.com",
        "stop-loss order yes",
        "she said stop it",
        "My kid won't stop it",
        "how do I stop it",
        "I told the bank to stop it",
        "Stop-by offer, yes",
        "Is this the last stop, sir",
        "I will stop this bill and text you",
        "a b",
        "I will cancel my other plan",
        "I don't want to opt out",
        "do not unsubscribe me",
        "please don't stop",
        "at the end of the month",
        "I quit my job last week",
        "the bus stop",
        "yes",
        "no",
        "Please help me choose a plan",
        "Start on Monday",
        "",
        "👍",
    ],
)
def test_ordinary_words_are_no_opt_out(text: str) -> None:
    assert meaning_of(text) is Meaning.ORDINARY


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_nothing_a_stranger_writes_breaks_it(text: str) -> None:
    assert meaning_of(text) in Meaning
    assert leaning(text) in Leaning


@given(
    st.lists(
        st.sampled_from(["I", "you", "did", "don't", "never", "not", "must", "opt", "in", "stop", "this"])
    ),
    st.sampled_from([", ", ". ", " (", "\n", " - ", " \u2014 "]),
    st.sampled_from(
        ["stop texting me", "leave me alone", "do not text", "take me off your list", "no more texts"]
    ),
)
def test_no_words_unsay_a_demand_behind_a_comma_a_dash_or_a_line(
    words: list[str], pause: str, demand: str
) -> None:
    assert meaning_of(" ".join(words) + pause + demand) is Meaning.OPT_OUT


@given(
    st.lists(st.sampled_from(["we", "bill", "tomorrow", "plan", "two", "seats", "the", "blue"]), max_size=8)
)
def test_words_that_ask_for_nothing_never_opt_out(words: list[str]) -> None:
    assert meaning_of(" ".join(words)) is Meaning.ORDINARY


@given(any_case(("start", "unstop")), EDGES)
def test_start_and_unstop_opt_in(word: str, after: str) -> None:
    assert meaning_of(word + after) is Meaning.OPT_IN


@given(any_case(("help", "info")), EDGES)
def test_help_and_info_ask_for_help(word: str, after: str) -> None:
    assert meaning_of(word + after) is Meaning.HELP


def test_a_subject_adds_words_and_takes_none_away() -> None:
    assert meaning_of("basta") is Meaning.ORDINARY
    assert meaning_of("Basta!", ["basta"]) is Meaning.OPT_OUT
    assert meaning_of("I say no gracias to you", ["no gracias"]) is Meaning.OPT_OUT
    assert meaning_of("that is enough basta pasta", ["basta"]) is Meaning.ORDINARY
    assert meaning_of("STOP", ["basta"]) is Meaning.OPT_OUT


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("Yes", Leaning.YES),
        ("yes please!", Leaning.YES),
        ("Yes, sure", Leaning.YES),
        ("yes but not now", Leaning.UNCLEAR),
        ("yes?", Leaning.YES),
        ("No thanks", Leaning.NO),
        ("no, I moved away", Leaning.NO),
        ("Who is this?", Leaning.UNCLEAR),
        ("Yes or what?", Leaning.UNCLEAR),
        ("I want to talk to a person, call me", Leaning.PERSON),
        ("HUMAN", Leaning.PERSON),
        ("maybe", Leaning.UNCLEAR),
        ("please, you must stop", Leaning.LEAVING),
        ("yes, at the bus stop", Leaning.LEAVING),
        ("yes I will get off at the third stop there", Leaning.UNCLEAR),
        ("no I will get off at the third stop there", Leaning.NO),
    ],
)
def test_what_is_heard(text: str, heard: Leaning) -> None:
    assert leaning(text) is heard
