"""Files to examples: what each reader makes of a line, and errors that name the file, the line and what was wanted."""

import csv
import gzip
import logging
import re

import pytest

from fourfold.errors import InputError
from fourfold.training.legacy._files import at_most, lines, lines_together
from fourfold.training.legacy.readers import (
    LabelSentenceReader,
    NLIDataReader,
    PairedFilesReader,
    STSBenchmarkDataReader,
    STSDataReader,
    TripletReader,
)


def seen(examples):
    return [(example.texts, example.label) for example in examples]


@pytest.fixture
def write(tmp_path):
    def write(name, content, packed=False):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
        return tmp_path / name

    return write


def test_the_content_of_a_file_says_whether_it_is_packed(write):
    for name, packed in [("a", False), ("a.gz", True), ("b", True), ("b.gz", False), ("empty", False)]:
        path = write(name, "" if name == "empty" else "one\r\nzwölf\rx", packed)
        assert list(lines(path)) == ([] if name == "empty" else ["one\n", "zwölf\n", "x"])
        assert list(lines(str(path))) == list(lines(path))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("line", [1, 2, 3000, 5000])
def test_text_that_is_not_utf8_is_found(write, packed, end, line):
    parts = [b"a line"] * 5000
    parts[line - 1] = b"caf\xe9"
    path = write("latin.tsv", end.encode().join(parts), packed)
    with pytest.raises(InputError, match=rf"latin\.tsv, line {line}: expected UTF-8 text, got the byte 0xe9"):
        list(lines(path))


def test_files_that_cannot_be_read(write, tmp_path):
    for path in (tmp_path / "absent.tsv", tmp_path):
        with pytest.raises(InputError, match=f"{re.escape(str(path))} cannot be read: .*; expected a text file"):
            list(lines(path))
    whole = write("cut.gz", "text\n" * 50_000, packed=True)
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut\.gz, after line \d+: expected a whole gzip file"):
        list(lines(whole))


def test_files_of_unequal_length_are_told(write, caplog):
    paths = [write("a", "1\n2\n3\n"), write("b", "1\n2\n")]
    assert list(lines_together(paths)) == [("1\n", "1\n"), ("2\n", "2\n")]
    assert "b ends after line 2" in caplog.text
    caplog.clear()
    caplog.set_level(logging.WARNING)
    assert len(list(lines_together([paths[0]] * 2))) == 3
    assert len(list(at_most(lines_together(paths), 2))) == 2
    assert not caplog.records


def test_at_most_takes_no_more_than_it_gives():
    items = iter(range(9))
    assert list(at_most(items, 2)) == [0, 1]
    assert list(at_most(items, -1)) == list(range(2, 9))
    assert list(at_most([1, 2], None)) == [1, 2]


def test_classes_are_numbered_over_files(write, tmp_path):
    write("a.tsv", "x\tone\n y\ttwo \tz\nx\t\u2028\u00a0three\n")
    write("b.tsv", "z\tfour\ny\tfive\n", packed=True)
    reader = LabelSentenceReader(tmp_path)
    assert seen(reader.get_examples("a.tsv")) == [(["one"], 0), (["two "], 1), (["\u2028\u00a0three"], 0)]
    assert [example.guid for example in reader.get_examples("b.tsv")] == ["b.tsv-0", "b.tsv-1"]
    assert reader.label_map == {"x": 0, "y": 1, "z": 2}
    assert seen(LabelSentenceReader(str(tmp_path)).get_examples("b.tsv", max_examples=1)) == [(["four"], 0)]


def test_pairs_of_natural_language_inference(write, tmp_path):
    for stem, text in {"s1": "a\nb\nc\n", "s2": "d\ne\nf\n", "labels": "neutral\n Entailment\r\ncontradiction"}.items():
        write(f"{stem}.train.gz", text, packed=True)
    reader = NLIDataReader(tmp_path)
    assert seen(reader.get_examples("train.gz")) == [(["a\n", "d\n"], 2), (["b\n", "e\n"], 1), (["c\n", "f\n"], 0)]
    assert len(reader.get_examples("train.gz", max_examples=2)) == 2
    assert reader.get_num_labels() == 3
    reader.get_labels().clear()
    assert reader.get_num_labels() == 3


def test_lines_of_files_that_belong_together(write):
    paths = [write("a", "1\n 2 \n\n"), write("b.gz", "x\ny\nz", packed=True), write("c", "q\nr\ns\n")]
    found = PairedFilesReader(paths).get_examples()
    assert seen(found) == [(["1\n", "x\n", "q\n"], 1), ([" 2 \n", "y\n", "r\n"], 1), (["\n", "z", "s\n"], 1)]
    assert [example.guid for example in found] == ["0", "1", "2"]
    with pytest.raises(InputError, match="at least one"):
        PairedFilesReader([])


def test_scores(write, tmp_path):
    write("a.csv", '"a, b",c,2\n"two\nlines",d, 6 \n')
    options = {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL}
    texts = [["a, b", "c"], ["two\nlines", "d"]]
    for more, scores in [({}, [0.4, 1.2]), ({"normalize_scores": False}, [2.0, 6.0]), ({"min_score": 1}, [0.25, 1.25])]:
        found = STSDataReader(tmp_path, **options, **more).get_examples("a.csv")
        assert [example.texts for example in found] == texts
        assert [example.label for example in found] == pytest.approx(scores)
    with pytest.raises(InputError, match="must differ"):
        STSDataReader(tmp_path, max_score=0)
    assert STSDataReader(tmp_path, max_score=0, normalize_scores=False).max_score == 0


def test_scores_of_the_benchmark(write, tmp_path):
    write("dev.tsv", 'a\tb\tc\td\t5\t"one\ttwo\tmore\n' * 3, packed=True)
    assert seen(STSBenchmarkDataReader(tmp_path).get_examples("dev.tsv", 2)) == [(['"one', "two"], 1.0)] * 2


def test_triplets(write, tmp_path):
    write("a.tsv", "x\ty\tz\na\tb\tc\nd\te\tf\n")
    write("empty.tsv", "")
    assert [example.texts for example in TripletReader(tmp_path).get_examples("a.tsv", 1)] == [["x", "y", "z"]]
    reader = TripletReader(tmp_path, 2, 0, 0, has_header=True)
    assert seen(reader.get_examples("a.tsv")) == [(["c", "a", "a"], 0), (["f", "d", "d"], 0)]
    assert len(reader.get_examples("a.tsv", 1)) == 1
    assert reader.get_examples("empty.tsv") == []


@pytest.mark.parametrize(
    ("reader", "line", "message"),
    [
        (LabelSentenceReader, "label", r"expected the text in column 1, counted from 0; the line has 1 columns"),
        (lambda folder: LabelSentenceReader(folder, 5), "label\ttext", r"expected the label in column 5"),
        (STSDataReader, "a\tb\tbest", r"expected a number as the score, in column 2, got 'best'"),
        (STSDataReader, "a\tb\tnan", r"expected a number as the score, in column 2, got 'nan'"),
        (STSDataReader, "a\tb", r"expected the score in column 2"),
        (STSDataReader, "", r"expected the first text in column 0, counted from 0; the line has 0 columns"),
        (STSBenchmarkDataReader, "a\tb\t3", r"expected the first text in column 5"),
        (TripletReader, "a\tb", r"expected the third text in column 2"),
        (TripletReader, "x" * 200_000, r"expected delimited columns: field larger than"),
    ],
)
def test_an_error_names_the_file_the_line_and_what_was_expected(write, tmp_path, reader, line, message):
    csv.field_size_limit(131_072)  # Python's own; other packages raise it for the whole process
    path = write("a.tsv", f"a\tb\t1\td\t2\te\tf\n{line}\na\tb\t3\n")
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}, line 2: {message}"):
        reader(tmp_path).get_examples("a.tsv")
    assert len(reader(tmp_path).get_examples("a.tsv", max_examples=1)) == 1
    with pytest.raises(InputError, match=r"absent\.tsv cannot be read"):
        reader(tmp_path).get_examples("absent.tsv")


def test_an_error_names_the_label_that_is_unknown(write, tmp_path):
    for stem in ("s1", "s2"):
        write(f"{stem}.dev", "a\nb\n")
    path = write("labels.dev", "neutral\n-\n")
    reader = NLIDataReader(tmp_path)
    with pytest.raises(
        InputError, match=rf"^{re.escape(str(path))}, line 2: expected a label, one of contradiction, .*, got '-'"
    ):
        reader.get_examples("dev")
    with pytest.raises(InputError, match="'maybe'"):
        reader.map_label("maybe")
    path.unlink()
    with pytest.raises(InputError, match=r"labels\.dev cannot be read"):
        reader.get_examples("dev")
