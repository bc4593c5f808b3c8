"""What the demo may do with the directory that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.demo.marker import LIST, Marker, prepare
from cli.exits import WrongUsage


def ran(directory: Path, *, finished: bool = False, steps: bool = True) -> Marker:
    """A demo of 200 contacts was here and left its list."""
    marker, _ = prepare(directory, contacts=200, seed=1)
    marker.steps = {"import": "some-id"} if steps else {}
    marker.finished = finished
    marker.write(directory)
    (directory / LIST).write_text("phone\n")
    return marker


def test_the_same_demo_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    left = ran(tmp_path)

    assert prepare(tmp_path, contacts=200, seed=1) == (left, True)
    assert (tmp_path / LIST).exists()


@pytest.mark.parametrize(("contacts", "seed", "days"), [(10_000, 1, 4.5), (200, 2, 4.5), (200, 1, 2)])
def test_a_demo_that_did_not_end_is_not_removed_by_another(
    tmp_path: Path, contacts: int, seed: int, days: float
) -> None:
    left = ran(tmp_path)

    with pytest.raises(WrongUsage, match=r"--contacts 200 --seed 1 --days 4\.5"):
        prepare(tmp_path, contacts, seed, days)

    assert prepare(tmp_path, contacts=200, seed=1) == (left, True)
    assert (tmp_path / LIST).exists()


@pytest.mark.parametrize(("finished", "steps"), [(True, True), (False, False)])
def test_one_that_ended_or_did_nothing_yet_is_made_anew(tmp_path: Path, finished: bool, steps: bool) -> None:
    ran(tmp_path, finished=finished, steps=steps)

    marker, continues = prepare(tmp_path, contacts=300, seed=1)

    assert (marker.contacts, marker.steps, continues) == (300, {}, False)
    assert not (tmp_path / LIST).exists()


def test_what_the_demo_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(WrongUsage, match="did not make"):
        prepare(tmp_path, contacts=200, seed=1)

    assert (tmp_path / "thesis.txt").read_text() == "mine"
