"""What the demonstration says at its end can be done where it ran."""

from pathlib import Path

import pytest

from cli.api import Api
from cli.commands.demo import _say_where_to_look
from cli.demo.story import Story, worth_listing
from cli.found import find

LIST = Path("/data/contacts.csv")


def said(capsys: pytest.CaptureFixture[str], against: str | None, state: str | None = None) -> str:
    _say_where_to_look(LIST.parent, 117.2, 2**26, "C-1", state, keep=False, against=against)
    return " ".join(capsys.readouterr().out.split())


def test_of_its_own_line_it_names_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, None)
    assert "at most 64 MiB of memory" in told
    assert "parley up --data-dir /data," in told
    assert "parley stats show C-1 --data-dir /data" in told


def test_of_somebody_elses_it_names_what_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARLEY_CLI_AGAINST", raising=False)
    told = said(capsys, "compose")
    assert "parley stats show C-1 --against compose" in told
    monkeypatch.setenv("PARLEY_CLI_AGAINST", "contacts=http://contacts:8101")
    told += said(capsys, "contacts=http://contacts:8101")
    assert told.endswith("parley reconcile")
    assert not any(word in told for word in ("--data-dir", "carrier.jsonl", "parley up", "MiB"))


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ({"scheduled", "available"}, "activities list --state available --data-dir"),
        ({"scheduled", "completed"}, "activities list --state scheduled --data-dir"),
        ({"completed"}, "activities list --data-dir"),
    ],
)
def test_it_recommends_a_list_that_has_something_in_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, there: set[str], hint: str
) -> None:
    def get(_: Api, service: str, path: str, state: str, **__: object) -> dict[str, object]:
        return {"items": [{"state": state}] * (state in there)}

    monkeypatch.setattr(Api, "get", get)
    with Api(find(LIST.parent, "compose")) as api:
        assert hint in said(capsys, None, worth_listing(api))


@pytest.mark.parametrize(("count", "words"), [(0, "0 times"), (1, "once"), (2, "2 times")])
def test_a_story_counts_in_words_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, words: str
) -> None:
    answers: dict[str, dict[str, object]] = {
        "contacts": {
            "contact_id": "c",
            "external_id": "C-1",
            "created_at": "2026-11-28T12:00:00Z",
            "phones": [{"number": "+12025550142"}],
        },
        "activities": {"items": []},
        "stats": {
            "total": {
                "contact_count": count,
                "contact_count_out": count,
                "contact_count_in": 0,
                "last_contact_at": None,
            },
            "channels": {},
        },
    }
    monkeypatch.setattr(Api, "get", lambda _, service, *__, **___: answers[service])
    file = tmp_path / "contacts.csv"
    file.write_text("external_id\nC-1\n")
    with Api(find(tmp_path, "compose")) as api:
        told = Story(api, "c", file).events()[-1].what
    assert told.startswith(f"contacted {words}: {count} out, 0 in")
