"""What the columns of an imported file mean, and what one row says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from contacts.domain.contact import Fault, Reason
from contacts.domain.contact_type import ContactType
from contracts.vocabulary import PhoneType, PreferenceKind

Meaning = Literal["phone", "email", "text", "custom", "opted-out", "ignored"]

_CELL, _HOME, _WORK, _OFFICE, _FAX, _OTHER = PhoneType

_PHONES: dict[PhoneType, str] = {
    _CELL: "phone mobile cell telephone tel phone_number mobile_phone mobile_number cell_phone cellphone"
    " msisdn number phone_1 phone1",
    _HOME: "home_phone phone_home home",
    _WORK: "work_phone phone_work business_phone work",
    _OFFICE: "office_phone phone_office office",
    _FAX: "fax fax_number",
    _OTHER: "other_phone phone_other phone_2 phone2 phone_3 phone3 second_phone",
}
_TEXTS = {
    "external_id": "external_id externalid id customer_id client_id account account_id account_number"
    " reference ref crm_id",
    "first_name": "first_name firstname first given_name forename",
    "last_name": "last_name lastname last surname family_name",
    "organisation": "organisation organization company company_name employer",
    "time_zone": "time_zone timezone zone tz iana_zone",
}
_EMAILS = "email e_mail mail email_address e_mail_address"
_OPT_OUTS = {
    PreferenceKind.DO_NOT_SMS: "opted_out opt_out optout optedout do_not_sms do_not_text no_sms sms_opt_out",
    PreferenceKind.DO_NOT_CALL: "do_not_call dnc no_calls call_opt_out",
    PreferenceKind.DO_NOT_EMAIL: "do_not_email no_email email_opt_out unsubscribed",
    PreferenceKind.DO_NOT_CHAT: "do_not_chat no_chat chat_opt_out",
}
REJECT_COLUMNS = ("line", "reason", "what_would_be_right")
"""In front of the columns of a rejects file, so that a mended one can be imported as it is."""

_YES = frozenset(["yes", "y", "true", "t", "1", "x", "on", "stop", "opted_out", "out", "oui", "ja", "si"])
_NO = frozenset(("", *["no", "n", "false", "f", "0", "off", "in", "non", "nein"]))
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    meaning: Meaning
    name: str = ""
    """The field of the contact, the custom field, or the preference."""
    phone_type: PhoneType = PhoneType.CELL


class UnusableFile(ValueError):
    """The whole file is refused; the message is a sentence for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one line says about a contact. Empty cells say nothing."""

    raw: Mapping[str, Any]
    opt_outs: tuple[PreferenceKind, ...] = ()
    faults: tuple[Fault, ...] = field(default=())
    titles: Mapping[str, str] = field(default_factory=dict)
    """The column, by the place in a contact that it filled, such as `phones.0.number`."""

    def in_column(self, fault: Fault) -> Fault:
        """The same fault where whoever wrote the file looks for it: in a column of it."""
        return replace(fault, where=self.titles.get(fault.where, fault.where))


def read_header(cells: Sequence[str], type_: ContactType) -> tuple[Column, ...]:
    """Raises UnusableFile for a column that nobody knows, is named twice, or has no name."""
    columns = tuple(_column(position, cell, type_) for position, cell in enumerate(cells, 1))
    _check_only_once(columns)
    if not any(column.meaning in ("phone", "email") for column in columns):
        raise UnusableFile(
            "No column holds a phone or an e-mail; name one `phone` or `email`. "
            f"The first line of the file has: {', '.join(column.title for column in columns)}."
        )
    return columns


def _column(position: int, cell: str, type_: ContactType) -> Column:
    title = cell.strip()
    word = _word(title)
    if not word:
        raise UnusableFile(f"Column {position} has no name; the first line must name every column.")
    if word in REJECT_COLUMNS:
        return Column(title, "ignored")
    custom = {_word(name): name for name in type_.custom_fields}
    if word in custom:
        return Column(title, "custom", custom[word])
    known = _KNOWN.get(word)
    if known is None or (known.meaning == "opted-out" and known.name not in type_.preferences):
        raise UnusableFile(
            f"Column {position} is {title[:80]!r}, and nothing of that name is known. "
            f"Known are {', '.join(_names_known(type_))}, and the usual other names of these."
        )
    return Column(title, known.meaning, known.name, known.phone_type)


def _names_known(type_: ContactType) -> Iterable[str]:
    yield from ("external_id", "first_name", "last_name", "organisation")
    yield from (
        "phone",
        "home_phone",
        "work_phone",
        "office_phone",
        "fax",
        "other_phone",
        "email",
        "time_zone",
    )
    if PreferenceKind.DO_NOT_SMS in type_.preferences:
        yield "opted_out"
    yield from (kind.replace("-", "_") for kind in type_.preferences)
    yield from type_.custom_fields


def _check_only_once(columns: Sequence[Column]) -> None:
    first: dict[tuple[Meaning, str], Column] = {}
    for column in columns:
        if column.meaning in ("phone", "email", "ignored"):
            continue
        other = first.setdefault((column.meaning, column.name), column)
        if other is not column:
            raise UnusableFile(
                f"Columns {other.title!r} and {column.title!r} both mean {column.name}; keep one."
            )


def read_row(columns: Sequence[Column], cells: Sequence[str], type_: ContactType) -> Row:
    faults: list[Fault] = []
    if any(cell.strip() for cell in cells[len(columns) :]):
        what = f"{len(cells)} cells for {len(columns)} columns; quote a cell that has the delimiter in it"
        return Row({}, faults=(Fault(Reason.BROKEN_ROW, "", what),))
    raw: dict[str, Any] = {"phones": [], "emails": [], "fields": {}}
    opt_outs: list[PreferenceKind] = []
    titles: dict[str, str] = {}
    for column, cell in zip(columns, cells, strict=False):
        text = cell.strip()
        if not text:
            continue
        match column.meaning:
            case "phone":
                titles[f"phones.{len(raw['phones'])}.number"] = column.title
                raw["phones"].append((text, column.phone_type))
            case "email":
                titles[f"emails.{len(raw['emails'])}"] = column.title
                raw["emails"].append(text)
            case "text":
                titles[column.name] = column.title
                raw[column.name] = text
            case "custom":
                titles[f"fields.{column.name}"] = column.title
                raw["fields"][column.name] = typed(text, type_.custom_fields[column.name])
            case "opted-out":
                if _says_yes(text, column.title, faults):
                    opt_outs.append(PreferenceKind(column.name))
            case "ignored":
                pass
    if not raw["phones"] and not raw["emails"]:
        faults.append(Fault(Reason.MISSING_ADDRESS, "", "a phone or an e-mail is needed"))
    return Row(raw, tuple(opt_outs), tuple(faults), titles)


def typed(text: str, rule: Mapping[str, Any]) -> object:
    """A cell as the schema wants it; what cannot be read so stays text, and the schema says what is wrong."""
    wanted = rule.get("type")
    for type_ in wanted if isinstance(wanted, list) else [wanted]:
        if type_ in ("integer", "number") and _INTEGER.fullmatch(text):
            return int(text)
        if type_ == "number" and _NUMBER.fullmatch(text):
            return float(text)
        if type_ == "boolean" and (word := _word(text)) in _YES | _NO:
            return word in _YES
    return text


def _says_yes(text: str, title: str, faults: list[Fault]) -> bool:
    word = _word(text)
    if word not in _YES | _NO:
        faults.append(Fault(Reason.INVALID_FIELD, title[:80], "must be yes, no or empty"))
    return word in _YES


def _word(title: str) -> str:
    return re.sub(r"[\s\-./]+", "_", title.strip().lower()).strip("_")


def _known() -> dict[str, Column]:
    known: dict[str, Column] = {}
    for type_, words in _PHONES.items():
        known |= {word: Column(word, "phone", "phones", type_) for word in words.split()}
    known |= {word: Column(word, "email", "emails") for word in _EMAILS.split()}
    for name, words in _TEXTS.items():
        known |= {word: Column(word, "text", name) for word in words.split()}
    for kind, words in _OPT_OUTS.items():
        known |= {word: Column(word, "opted-out", kind.value) for word in words.split()}
    return known


_KNOWN = _known()
