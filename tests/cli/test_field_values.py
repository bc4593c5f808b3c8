"""`--field NAME=VALUE`: the schema says whether `01234` is a text or a number, not the look of it."""

import pytest

from cli.commands.batch import pairs

RULES = {
    "postcode": {"type": "string"},
    "remark": {"type": ["string", "null"]},
    "level": {"enum": ["1", "2"]},
    "tags": {"type": "array", "items": {"type": "string"}},
    "visits": {"type": "integer"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("postcode=01234", "01234"),
        ("remark=true", "true"),
        ("level=1", "1"),
        ("tags=7", "7"),
        ("visits=7", 7),
        ("unknown=7", 7),
        ("unknown=nan", "nan"),
    ],
)
def test_a_value_is_what_the_schema_says(text: str, value: object) -> None:
    assert list(pairs([text], RULES).values()) == [value]


def test_without_a_schema_a_value_is_what_it_looks_like() -> None:
    assert pairs(["a=1", "b=0.5", "c=true", "d=x=y"]) == {"a": 1, "b": 0.5, "c": True, "d": "x=y"}
