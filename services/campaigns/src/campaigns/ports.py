"""What the use cases need from outside."""

from __future__ import annotations

from typing import Any, Protocol

from campaigns.domain.kinds import Catalog, Kind
from servicekit.unit_of_work import Store


class CatalogStores(Protocol):
    """The catalogue, kept kind by kind."""

    def of(self, kind: Kind) -> Store[Any]: ...

    async def everything(self) -> Catalog:
        """All that stands; a catalogue is small."""
        ...

    async def get(self, kind: Kind, code_or_id: str) -> Any | None: ...
