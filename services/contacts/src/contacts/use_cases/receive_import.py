from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from uuid import uuid4

import structlog

from contacts.domain.import_columns import UnusableFile
from contacts.domain.importing import Import
from contacts.domain.phone import REGIONS
from contacts.domain.upload import Upload
from contacts.ports import ContactTypes, Imports
from contacts.use_cases.change_contacts import type_named
from servicekit.clock import Clock, real_now
from servicekit.conflicts import Conflict
from servicekit.failpoints import Failpoint
from servicekit.leases import bucket_of
from servicekit.unit_of_work import Changes, Committer

log = structlog.get_logger()

_IMPORT_KEPT = Failpoint("contacts.import_kept")
_IMPORT_CHUNK_KEPT = Failpoint("contacts.import_chunk_kept")

_CHUNK = 256 * 1024


class UnknownRegion(ValueError):
    pass


class AnotherFile(Exception):
    """The id was given to a file before, and this one is another, or meant otherwise."""


class ReceiveImport:
    """Keeps the whole file before a row of it is looked at, so that a killed service goes on with it.

    A file that is refused leaves nothing behind. Each upload keeps its bytes apart: a second one of the same
    id may come while the first still hangs, and the first to be whole becomes the import.
    """

    def __init__(
        self, imports: Imports, types: ContactTypes, committer: Committer, clock: Clock, most_bytes: int
    ) -> None:
        self._imports = imports
        self._types = types
        self._committer = committer
        self._clock = clock
        self._most_bytes = most_bytes

    async def __call__(
        self,
        import_id: str,
        body: AsyncIterator[bytes],
        *,
        contact_type: str,
        default_region: str | None,
        name: str,
    ) -> Import:
        """Raises UnknownRegion, AnotherFile, UnknownContactType, UnusableFile."""
        if default_region is not None and default_region not in REGIONS:
            raise UnknownRegion(
                f"The region is an ISO 3166 country code such as US, not {default_region[:20]!r}."
            )
        digest = hashlib.sha256(f"{contact_type} {default_region} ".encode())
        body = _digested(body, digest)
        if standing := await self._imports.get(import_id):
            await _read_to_the_end(body)
            return _the_same(standing, digest.hexdigest())
        upload_id = uuid4().hex
        type_ = await type_named(self._types, contact_type)
        upload = Upload(type_)
        try:
            await self._keep(import_id, upload_id, body, upload)
        except UnusableFile:
            await self._imports.forget(import_id, upload_id)
            await _read_to_the_end(body)
            raise
        except BaseException:
            await self._imports.forget(import_id, upload_id)
            raise
        _IMPORT_KEPT()
        accepted = Import(
            import_id=import_id,
            version=1,
            name=name or import_id,
            contact_type=contact_type,
            default_region=default_region,
            bucket=bucket_of(import_id.encode()),
            delimiter=upload.delimiter or ",",
            header=upload.header,
            digest=digest.hexdigest(),
            upload_id=upload_id,
            bytes=upload.bytes,
            lines=upload.lines,
            received_at=self._clock.now(),
        )
        try:
            await self._committer.commit(Changes([(self._imports.store, None, accepted)]))
        except Conflict:
            standing = await self._imports.get(import_id)
            if standing is None:
                raise
            await self._imports.forget(import_id, upload_id)
            return _the_same(standing, digest.hexdigest())
        log.info("import accepted", import_id=import_id, bytes=upload.bytes, lines=upload.lines)
        return accepted

    async def _keep(self, import_id: str, upload_id: str, body: AsyncIterator[bytes], upload: Upload) -> None:
        number, held = 0, bytearray()
        async for data in body:
            if upload.bytes + len(data) > self._most_bytes:
                raise UnusableFile(
                    f"The file is larger than {self._most_bytes >> 20} MiB; import it in parts."
                )
            upload.feed(data)
            held += data
            if len(held) >= _CHUNK:
                await self._imports.add_chunk(import_id, upload_id, number, bytes(held), real_now())
                number, held = number + 1, bytearray()
                _IMPORT_CHUNK_KEPT()
        upload.end()
        await self._imports.add_chunk(import_id, upload_id, number, bytes(held), real_now())


def _the_same(standing: Import, digest: str) -> Import:
    if standing.digest not in (None, digest):
        raise AnotherFile
    return standing


async def _digested(body: AsyncIterator[bytes], digest: hashlib._Hash) -> AsyncIterator[bytes]:
    async for data in body:
        digest.update(data)
        yield data


async def _read_to_the_end(body: AsyncIterator[bytes]) -> None:
    """So that a client that is still sending gets the answer instead of a broken connection."""
    async for _ in body:
        pass
