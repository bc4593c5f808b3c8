"""What every direction provider must do, as tests that its author runs.

In the tests of your own package, with pytest or anything that collects `test_` methods:

    from stats.direction_provider_contract import DirectionProviderContract

    class TestFaxDirection(DirectionProviderContract):
        provider = FaxDirection()
        incoming = [fax(sender="+442079460001")]      # interactions with `self.target`, from it
        outgoing = [fax(to=["+442079460001"])]        # and to it
        unknown = [fax()]                             # and neither
        target = TargetView("contact", "c-1", frozenset({"+442079460001"}))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from contracts.channel_sms import InteractionRecorded
from contracts.vocabulary import Direction
from stats.direction_provider import DirectionProvider, TargetView, choose

_STRANGER = TargetView("contact", "somebody nobody wrote to", frozenset())


class DirectionProviderContract:
    """Subclass it, name your provider, and give it samples of each kind."""

    provider: ClassVar[DirectionProvider]
    target: ClassVar[TargetView] = TargetView("contact", "contact-1", frozenset({"dana@example.com"}))
    incoming: ClassVar[Sequence[InteractionRecorded]] = ()
    outgoing: ClassVar[Sequence[InteractionRecorded]] = ()
    unknown: ClassVar[Sequence[InteractionRecorded]] = ()

    def test_it_is_a_provider_that_parley_can_choose(self) -> None:
        assert isinstance(self.provider, DirectionProvider)
        assert choose([self.provider]) == {self.provider.interaction_type: self.provider}
        assert isinstance(self.provider.priority, int)
        assert isinstance(self.provider.reads_addresses, bool)

    def test_there_are_samples_of_its_own_type(self) -> None:
        samples = self._samples()
        assert samples, "give it samples: incoming, outgoing, unknown"
        assert {sample.interaction_type for sample in samples} == {self.provider.interaction_type}

    def test_incoming_is_what_the_contact_began(self) -> None:
        for sample in self.incoming:
            assert self.provider.direction(sample, self.target) is Direction.INCOMING

    def test_outgoing_is_what_we_began(self) -> None:
        for sample in self.outgoing:
            assert self.provider.direction(sample, self.target) is Direction.OUTGOING

    def test_what_cannot_be_told_is_unknown(self) -> None:
        for sample in self.unknown:
            assert self.provider.direction(sample, self.target) is Direction.UNKNOWN

    def test_a_bare_interaction_is_survived(self) -> None:
        for sample in self._samples():
            bare = InteractionRecorded(
                interaction_id=sample.interaction_id,
                interaction_type=sample.interaction_type,
                version=1,
                contact_id=sample.contact_id,
            )
            assert self.provider.direction(bare, _STRANGER) in tuple(Direction)
            assert self.provider.occurred_at(bare) is None

    def test_the_same_question_gets_the_same_answer(self) -> None:
        for sample in self._samples():
            answers = {self.provider.direction(sample, self.target) for _ in range(3)}
            assert len(answers) == 1
            assert answers <= set(Direction)

    def test_a_later_version_without_changes_decides_alike(self) -> None:
        for sample in self._samples():
            later = sample.evolve(version=sample.version + 1, disposition="edited")
            assert self.provider.direction(later, self.target) is self.provider.direction(sample, self.target)

    def test_who_reads_no_addresses_decides_without_them(self) -> None:
        if not self.provider.reads_addresses:
            nobody = TargetView(self.target.type, self.target.id, frozenset())
            for sample in self._samples():
                decided = self.provider.direction(sample, self.target)
                assert self.provider.direction(sample, nobody) is decided

    def test_times_have_an_offset(self) -> None:
        for sample in self._samples():
            at = self.provider.occurred_at(sample)
            assert at is None or at.tzinfo is not None

    def _samples(self) -> list[InteractionRecorded]:
        return [*self.incoming, *self.outgoing, *self.unknown]
