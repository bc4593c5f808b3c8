"""A file as it comes in: refused as a whole, or accepted for import."""

from __future__ import annotations

import codecs
from io import IncrementalNewlineDecoder

from contacts.domain.contact_type import ContactType
from contacts.domain.csv_records import Broken, Records, detect_delimiter
from contacts.domain.import_columns import UnusableFile, read_header

LONGEST_LINE = 64 * 1024
_OTHER_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16", codecs.BOM_UTF32_BE: "UTF-32"}


def text_decoder() -> IncrementalNewlineDecoder:
    """Bytes in pieces to text with `\\n` line ends; a byte order mark is dropped."""
    return IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)


class Upload:
    """Feed it the bytes; it raises UnusableFile as soon as the file cannot be used."""

    def __init__(self, type_: ContactType) -> None:
        self._type = type_
        self._decoder = text_decoder()
        self._line_length = 0
        self._head = ""
        self.bytes = 0
        self.lines = 0
        self.delimiter: str | None = None
        self.header: tuple[str, ...] = ()

    def feed(self, data: bytes, final: bool = False) -> None:
        if self.bytes == 0 and (name := _OTHER_MARKS.get(data[:2]) or _OTHER_MARKS.get(data[:4])):
            raise UnusableFile(_not_utf8(f"it is {name}"))
        text = self._decode(data, final)
        self.bytes += len(data)
        self._look_at_lines(text)
        if self.delimiter is None:
            self._look_for_header(text, final)

    def end(self) -> None:
        self.feed(b"", final=True)

    def _decode(self, data: bytes, final: bool) -> str:
        try:
            text: str = self._decoder.decode(data, final=final)
        except UnicodeDecodeError as error:
            wrong: bytes = error.object[error.start : error.start + 1]
            line = self.lines + 1 + error.object[: error.start].count(b"\n")
            what = f"line {line} has the byte 0x{wrong.hex().upper()}"
            raise UnusableFile(
                _not_utf8(what, " (it may be in Windows-1252 or another old encoding now)")
            ) from error
        if "\0" in text:
            raise UnusableFile(
                _not_utf8("it has zero bytes, so it is UTF-16, a spreadsheet, or no text at all")
            )
        return text

    def _look_at_lines(self, text: str) -> None:
        first, *others = text.split("\n")
        lengths = [self._line_length + len(first), *map(len, others)]
        if max(lengths) > LONGEST_LINE:
            at = self.lines + 1 + next(i for i, length in enumerate(lengths) if length > LONGEST_LINE)
            raise UnusableFile(
                f"Line {at} is longer than {LONGEST_LINE} characters; this is not a CSV of contacts."
            )
        self.lines += len(others)
        self._line_length = lengths[-1]

    def _look_for_header(self, text: str, final: bool) -> None:
        self._head += text
        begins = self._head.lstrip("\n")
        if not begins:
            if final:
                raise UnusableFile("The file is empty; its first line must name the columns.")
            return
        delimiter = detect_delimiter(begins.partition("\n")[0])
        records = Records(delimiter)
        found = records.feed(self._head) or (records.end() if final else [])
        if not found:
            return
        first = found[0]
        if isinstance(first, Broken):
            raise UnusableFile("The first line, which names the columns, has a quote that nothing closes.")
        read_header(first.cells, self._type)
        self.delimiter, self.header, self._head = delimiter, first.cells, ""


def _not_utf8(because: str, perhaps: str = "") -> str:
    return f"The file is not UTF-8: {because}. Save it as `CSV UTF-8`{perhaps} and import it again."
