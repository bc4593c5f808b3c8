"""The catalogue in the database: one collection per kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymongo import ASCENDING, IndexModel

from campaigns.domain.kinds import ENDPOINT, KINDS, Catalog, Kind
from servicekit.unit_of_work import Store

_BY_CODE = IndexModel([("code", ASCENDING)], unique=True)
_INDEXES = {
    ENDPOINT.plural: [
        _BY_CODE,
        IndexModel([("channel", ASCENDING), ("address", ASCENDING)], unique=True, name="one_per_address"),
    ]
}


class MongoCatalog:
    def __init__(self, make_store: Callable[..., Store[Any]]) -> None:
        self._stores: dict[str, Store[Any]] = {
            kind.plural: make_store(
                kind.plural, kind.state, kind.id_field, _INDEXES.get(kind.plural, [_BY_CODE])
            )
            for kind in KINDS
        }

    def of(self, kind: Kind) -> Store[Any]:
        return self._stores[kind.plural]

    async def everything(self) -> Catalog:
        return {kind.plural: {item.code: item async for item in self._all(kind)} for kind in KINDS}

    async def get(self, kind: Kind, code_or_id: str) -> Any | None:
        found = await self.of(kind).load([kind.id_of(code_or_id), code_or_id])
        return next(iter(found.values()), None)

    async def page(self, kind: Kind, after: str | None, limit: int) -> list[Any]:
        """By code."""
        store = self.of(kind)
        wanted = {} if after is None else {"code": {"$gt": after}}
        rows = store.collection.find(wanted).sort("code", ASCENDING).limit(limit)
        return [store.from_document(row) async for row in rows]

    async def _all(self, kind: Kind) -> Any:
        store = self.of(kind)
        async for row in store.collection.find({}):
            yield store.from_document(row)
