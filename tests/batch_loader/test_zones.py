from zoneinfo import available_timezones

from hypothesis import given
from hypothesis import strategies as st

from batch_loader.domain.zones import names_of


def test_a_former_name_is_the_same_zone() -> None:
    assert {"US/Eastern", "America/New_York"} <= names_of("US/Eastern") == names_of("America/New_York")
    assert "Asia/Calcutta" in names_of("Asia/Kolkata")
    assert "Europe/Kiev" in names_of("Europe/Kyiv")


def test_a_place_with_the_same_clock_is_another() -> None:
    assert "Europe/Amsterdam" not in names_of("Europe/Brussels")
    assert "Europe/Oslo" not in names_of("Europe/Berlin")
    assert "America/Los_Angeles" not in names_of("America/New_York")


def test_a_former_name_is_of_its_own_place_where_others_share_the_clock() -> None:
    assert names_of("Iceland") == names_of("Atlantic/Reykjavik") == {"Iceland", "Atlantic/Reykjavik"}
    assert not {"Iceland", "Africa/Timbuktu"} & names_of("Africa/Abidjan")
    assert names_of("Europe/Berlin") == {"Europe/Berlin"}


def test_a_clock_without_a_place_is_nobody_elses_zone() -> None:
    assert names_of("EST") == {"EST"}
    assert "EST" not in names_of("America/Panama")
    assert names_of("Europe/Brussels") == {"Europe/Brussels"}


def test_what_is_no_zone_is_itself() -> None:
    assert names_of("Nowhere/Atlantis") == {"Nowhere/Atlantis"}


@given(st.sampled_from(sorted(available_timezones())))
def test_each_name_leads_to_the_same_names(zone: str) -> None:
    names = names_of(zone)
    assert zone in names
    assert all(names_of(name) == names for name in names)
