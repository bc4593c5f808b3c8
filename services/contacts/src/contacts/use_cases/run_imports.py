from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

import structlog

from contacts.domain.contact import Contact, Fault, Reason
from contacts.domain.contact_type import ContactType
from contacts.domain.csv_records import Broken, Record, Records
from contacts.domain.import_columns import Column, read_header
from contacts.domain.importing import (
    Candidate,
    Import,
    Imported,
    ImportState,
    Outcome,
    Rejected,
    read,
    rejected,
    take,
)
from contacts.domain.natural_key import KeyUsedUp
from contacts.domain.upload import text_decoder
from contacts.ports import Contacts, ContactTypes, Imports
from servicekit.clock import Clock, real_now
from servicekit.conflicts import Conflict
from servicekit.failpoints import Failpoint
from servicekit.leases import Leases
from servicekit.pipeline import is_dependency
from servicekit.resting import rest
from servicekit.unit_of_work import Changes, Committer, Store

log = structlog.get_logger()

_IMPORT_FINISHED = Failpoint("contacts.import_finished")
_IMPORT_BATCH = Failpoint("contacts.import_batch")

_LOOK_EVERY = 0.25
_TIDY_EVERY = 600
_ABANDONED_AFTER = timedelta(hours=24)
_TRIES = 20


class RunImports:
    """Works accepted files off, oldest first, a batch of rows per transaction.

    The transaction holds the contacts, their announcements, the rejected rows and how far the import is;
    so a kill at any moment neither loses nor repeats a row, and of two replicas that believe they hold
    the same import only one gets a batch through.
    """

    def __init__(
        self,
        imports: Imports,
        contacts: Contacts,
        store: Store[Contact],
        types: ContactTypes,
        committer: Committer,
        leases: Leases,
        clock: Clock,
        batch: int,
        stopping: asyncio.Event,
    ) -> None:
        self._imports = imports
        self._contacts = contacts
        self._store = store
        self._types = types
        self._committer = committer
        self._leases = leases
        self._clock = clock
        self._batch = batch
        self._stopping = stopping
        self._tidy_at = 0.0
        self.accepted = asyncio.Event()

    async def run(self) -> None:
        while not self._stopping.is_set():
            await self._tidy()
            import_ = await self._imports.next(await self._leases.held())
            if import_ is None:
                await rest(self._stopping, _LOOK_EVERY, self.accepted)
            else:
                await self._work(import_)
        await self._leases.release()

    async def _tidy(self) -> None:
        if time.monotonic() < self._tidy_at:
            return
        self._tidy_at = time.monotonic() + _TIDY_EVERY
        if gone := await self._imports.forget_abandoned(real_now() - _ABANDONED_AFTER):
            log.info("abandoned uploads removed", uploads=gone)

    async def _work(self, import_: Import) -> None:
        try:
            if import_.state in (ImportState.WAITING, ImportState.RUNNING):
                import_ = await self._rows(import_)
            if import_.state in (ImportState.FINISHED, ImportState.FAILED):
                _IMPORT_FINISHED()
                await self._imports.sweep(import_.import_id)
                await self._save(import_, import_.evolved(swept=True))
        except Conflict:
            log.info("import taken over", import_id=import_.import_id)
        except Exception as error:
            if is_dependency(error):
                raise
            log.exception("import failed", import_id=import_.import_id)
            await self._fail(import_.import_id, error)

    async def _rows(self, import_: Import) -> Import:
        """As far as it goes: to the end of the file, or until this replica should stop."""
        type_ = await self._types.get(import_.contact_type)
        if type_ is None:
            raise LookupError(f"contact type {import_.contact_type} is gone")
        columns = read_header(import_.header, type_)
        async for batch in self._batches(import_):
            if self._stopping.is_set() or import_.bucket not in await self._leases.held():
                return import_
            _IMPORT_BATCH()
            import_ = await self._take(import_, batch, columns, type_)
            log.info("import advanced", import_id=import_.import_id, rows=import_.rows, line=import_.line)
        done = import_.evolved(state=ImportState.FINISHED, finished_at=self._clock.now())
        return await self._save(import_, done)

    async def _batches(self, import_: Import) -> AsyncIterator[list[Record | Broken]]:
        """The rows that are left, header and done ones skipped."""
        batch: list[Record | Broken] = []
        header = True
        async for record in self._records(import_):
            if header or record.line <= import_.line:
                header = False
                continue
            batch.append(record)
            if len(batch) == self._batch:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _records(self, import_: Import) -> AsyncIterator[Record | Broken]:
        decoder, records = text_decoder(), Records(import_.delimiter)
        async for data in self._imports.chunks(import_.import_id, import_.upload_id):
            for record in records.feed(decoder.decode(data)):
                yield record
        for record in (*records.feed(decoder.decode(b"", final=True)), *records.end()):
            yield record

    async def _take(
        self,
        import_: Import,
        batch: Sequence[Record | Broken],
        columns: Sequence[Column],
        type_: ContactType,
    ) -> Import:
        rows = [_read(record, columns, type_, import_.default_region) for record in batch]
        for attempt in range(_TRIES):
            outcomes = await self._decide(import_, rows, type_)
            advanced = import_.advanced(outcomes, batch[-1].line)
            try:
                await self._committer.commit(self._changes(import_, advanced, outcomes))
                return advanced
            except Conflict:
                fresh = await self._imports.get(import_.import_id)
                if fresh is None or fresh.version != import_.version or attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(0.01 * 2 ** min(attempt, 6))
        raise AssertionError("unreachable")

    async def _decide(
        self, import_: Import, rows: Sequence[Candidate | Rejected], type_: ContactType
    ) -> list[Outcome]:
        keys = {(type_.code, row.details.external_id) for row in rows if row.details.external_id is not None}
        owners = await self._contacts.owners(keys)
        ids = {
            row.line: owners.get((type_.code, row.details.external_id or ""), row.key.own_id())
            for row in rows
            if row.key is not None
        }
        standing: dict[str, Contact | None] = {}
        seen: set[str] = set()
        wanted = list(dict.fromkeys(ids.values()))
        while True:
            found, before = await asyncio.gather(
                self._contacts.load(wanted), self._imports.seen(import_.import_id, wanted)
            )
            standing |= dict.fromkeys(wanted) | found
            seen |= before
            outcomes, unknown = self._outcomes(import_, rows, type_, ids, dict(standing), set(seen))
            if not unknown:
                return outcomes
            wanted = list(unknown)

    def _outcomes(
        self,
        import_: Import,
        rows: Sequence[Candidate | Rejected],
        type_: ContactType,
        ids: Mapping[int, str],
        standing: dict[str, Contact | None],
        seen: set[str],
    ) -> tuple[list[Outcome], set[str]]:
        """And which further ids have to be looked at before they hold: few keys are passed on."""
        unknown: set[str] = set()
        now = self._clock.now()
        outcomes: list[Outcome] = []
        for row in rows:
            contact_id, used_up = ids.get(row.line), ""
            if contact_id is not None and row.key is not None and not row.key.may_have(standing[contact_id]):
                possible = (contact_id, *row.key.ids())
                if further := set(possible) - standing.keys():
                    unknown |= further
                    continue
                try:
                    contact_id = row.key.place(possible, standing)
                except KeyUsedUp as told:
                    contact_id, used_up = None, str(told)
            outcome: Outcome
            if isinstance(row, Rejected):
                outcome = row
            elif contact_id is None:
                outcome = rejected(row, Fault(Reason.KEY_USED_UP, "", used_up))
            elif contact_id in seen:
                outcome = rejected(row, _DUPLICATE)
            else:
                outcome = take(row, contact_id, standing.get(contact_id), type_, import_.import_id, now)
            if isinstance(outcome, Imported):
                seen.add(outcome.contact.contact_id)
                standing[outcome.contact.contact_id] = outcome.contact
            elif contact_id is not None:
                outcome = outcome.of(contact_id, standing.get(contact_id))
            outcomes.append(outcome)
        return outcomes, unknown

    def _changes(self, import_: Import, advanced: Import, outcomes: Sequence[Outcome]) -> Changes:
        changes = Changes([(self._imports.store, import_, advanced)])
        taken: list[str] = []
        announced = []
        for outcome in outcomes:
            match outcome:
                case Rejected():
                    changes.also.append(self._imports.keep_reject(import_.import_id, outcome, real_now()))
                case Imported(contact, result, ledger, standing):
                    taken.append(contact.contact_id)
                    if result != "unchanged":
                        changes.replaced.append((self._store, standing, contact))
                        changes.also.extend(ledger)
                        announced.append(contact.announced())
        changes.also.append(self._imports.mark_seen(import_.import_id, advanced.line, taken))
        changes.rows = self._committer.outbox.rows(announced)
        return changes

    async def _save(self, import_: Import, changed: Import) -> Import:
        await self._committer.commit(Changes([(self._imports.store, import_, changed)]))
        return changed

    async def _fail(self, import_id: str, error: Exception) -> None:
        import_ = await self._imports.get(import_id)
        if import_ is None or import_.state in (ImportState.FINISHED, ImportState.FAILED):
            return
        told = f"stopped after line {import_.line} by a fault of the service ({type(error).__name__})"
        failed = import_.evolved(state=ImportState.FAILED, error=told, finished_at=self._clock.now())
        await self._save(import_, failed)


_DUPLICATE = Fault(Reason.DUPLICATE_IN_FILE, "", "an earlier line of this file is the same contact")
_BROKEN = Fault(
    Reason.BROKEN_ROW, "", "a quote is opened and never closed; write a quote inside a cell twice"
)


def _read(
    record: Record | Broken, columns: Sequence[Column], type_: ContactType, region: str | None
) -> Candidate | Rejected:
    if isinstance(record, Broken):
        return Rejected(record.line, (record.text,), _BROKEN)
    return read(record.line, record.cells, columns, type_, region)
