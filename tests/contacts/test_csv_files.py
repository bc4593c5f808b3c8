import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.domain.contact_type import ContactType
from contacts.domain.csv_records import Broken, Record, Records, detect_delimiter
from contacts.domain.import_columns import UnusableFile
from contacts.domain.upload import Upload, text_decoder
from tests.contacts.conftest import PERSON

TYPE = ContactType(version=1, **PERSON)

cells = st.text(st.sampled_from('ab;,"\n\t é'), max_size=8)
tables = st.lists(st.lists(cells, min_size=2, max_size=4), min_size=1, max_size=8)


@given(tables, st.sampled_from([",", ";", "\t"]), st.integers(1, 7))
def test_what_a_csv_writer_writes_is_read_back_whatever_the_pieces(
    rows: list[list[str]], delimiter: str, piece: int
) -> None:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, lineterminator="\n").writerows(rows)
    text, records = written.getvalue(), Records(delimiter)
    found = [r for at in range(0, len(text), piece) for r in records.feed(text[at : at + piece])]
    found += records.end()
    assert [list(r.cells) for r in found if isinstance(r, Record)] == [
        row for row in rows if any(cell.strip() for cell in row)
    ]


@given(st.text(st.sampled_from('ab,"\n'), max_size=60), st.integers(1, 5))
def test_no_text_breaks_the_reader_and_pieces_do_not_matter(text: str, piece: int) -> None:
    whole, pieces = Records(","), Records(",")
    at_once = [*whole.feed(text), *whole.end()]
    bit_by_bit = [r for at in range(0, len(text), piece) for r in pieces.feed(text[at : at + piece])]
    assert at_once == [*bit_by_bit, *pieces.end()]
    assert [r.line for r in at_once] == sorted({r.line for r in at_once})


def test_a_quote_that_nothing_closes_costs_one_line() -> None:
    records = Records(",")
    found = [*records.feed('a,b\n"oh,1\nc,2\nd,3\n'), *records.end()]
    assert found == [
        Record(1, ("a", "b")),
        Broken(2, '"oh,1'),
        Record(3, ("c", "2")),
        Record(4, ("d", "3")),
    ]


def test_a_record_knows_the_line_it_begins_at() -> None:
    found = Records(",").feed('a,b\n\n"x\ny",1\nz,2\n')
    assert [record.line for record in found] == [1, 3, 5]


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("a,b", ","), ("a;b", ";"), ("a\tb", "\t"), ('"x;y;z",b', ","), ("phone", ",")],
)
def test_the_delimiter_is_what_the_header_has_most_of(header: str, delimiter: str) -> None:
    assert detect_delimiter(header) == delimiter


def receive(data: bytes, piece: int = 5) -> Upload:
    upload = Upload(TYPE)
    for at in range(0, len(data), piece):
        upload.feed(data[at : at + piece])
    upload.end()
    return upload


@given(st.integers(1, 9), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["utf-8", "utf-8-sig"]))
def test_a_mark_and_any_line_end_are_taken(piece: int, end: str, encoding: str) -> None:
    text = end.join(("first_name;mobile", "Zoë;+12025550143", ""))
    upload = receive(text.encode(encoding), piece)
    assert (upload.header, upload.delimiter, upload.lines) == (("first_name", "mobile"), ";", 2)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("phone\n1\nZoë\n".encode("latin-1"), "line 3 has the byte 0xEB"),
        ("phone\n".encode("utf-16"), "it is UTF-16. Save it as `CSV UTF-8` and import it again."),
        ("phone\n".encode("utf-16-le"), "zero bytes"),
        (b"phone\nab\xc3", "line 2 has the byte 0xC3"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b'"phone\n', "a quote that nothing closes"),
        (b"first_name\nAda\n", "No column holds a phone or an e-mail"),
        (b"phone,shoe size\n", "'shoe size', and nothing of that name is known"),
        (b"phone,\n", "Column 2 has no name"),
        (b"phone,zone,tz\n", "'zone' and 'tz' both mean time_zone"),
        (b"phone\n" + b"x" * 70_000, "Line 2 is longer"),
    ],
)
@pytest.mark.parametrize("piece", [3, 100_000])
def test_an_unusable_file_is_refused_with_a_sentence(data: bytes, says: str, piece: int) -> None:
    with pytest.raises(UnusableFile, match=says.replace("(", r"\(")):
        receive(data, piece)


def test_a_refused_column_names_the_known_ones() -> None:
    with pytest.raises(UnusableFile, match=r"external_id.*phone.*time_zone.*opted_out.*plan, age, member"):
        receive(b"phone,nonsense\n")


def test_the_decoder_drops_the_mark_once() -> None:
    decoder = text_decoder()
    assert decoder.decode(b"\xef\xbb\xbfa\r") + decoder.decode(b"\nb", final=True) == "a\nb"
