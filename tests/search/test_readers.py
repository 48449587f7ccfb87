from __future__ import annotations

import pytest

from fourfold.search.readers import Unreadable, read_blocks


def blocks(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_blocks(path))


def shown(tmp_path, name, content):
    return [(b.line, b.heading, b.text) for b in blocks(tmp_path, name, content)]


def test_text_paragraphs(tmp_path):
    assert shown(tmp_path, "a.txt", "one\ntwo\n\n\nthree") == [(1, "", "one\ntwo"), (5, "", "three")]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_line_ends(tmp_path, end):
    assert shown(tmp_path, "a.txt", end.join(["one", "", "two"])) == [(1, "", "one"), (3, "", "two")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path, encoding):
    assert shown(tmp_path, "a.txt", "naïve 好".encode(encoding)) == [(1, "", "naïve 好")]


def test_bytes_that_are_no_utf8_are_windows_1252(tmp_path):
    assert shown(tmp_path, "a.txt", b"caf\xe9 \xe2\x82\xac \x81") == [(1, "", "café € \ufffd")]


def test_binary_is_refused_and_a_late_zero_is_not(tmp_path):
    with pytest.raises(Unreadable, match="not text"):
        blocks(tmp_path, "a.dat", b"ab\0cd")
    late = b"word " * 2000 + b"\0 end"
    assert blocks(tmp_path, "a.txt", late)[-1].text.endswith("end")


def test_text_titles(tmp_path):
    source = "Top\n***\n\nBelow\n=====\n\nbody\n\nNext\n====\n\n-----\n\nmore\n\nLonely\n======\n"
    assert shown(tmp_path, "a.rst", source) == [
        (7, "Top > Below", "body"),
        (14, "Top > Next", "more"),
        (16, "Top", "Lonely"),
    ]


def test_endless_line_streams_without_losing_a_word(tmp_path):
    words = [f"w{i}" for i in range(60_000)]
    found = blocks(tmp_path, "a.txt", " ".join(words) + "\nlast")
    assert " ".join(b.text for b in found).split() == [*words, "last"]
    assert found[0].line == 1
    assert len("".join(b.text for b in found)) < 2 * len(" ".join(words))


def test_markdown_nested_headings(tmp_path):
    source = "# A\n\none\n\n## B ##\n\ntwo\n\n# C\n## Empty\n# D\nSetext\n---\nthree\n"
    assert shown(tmp_path, "a.md", source) == [
        (3, "A", "one"),
        (7, "A > B", "two"),
        (10, "C", "Empty"),
        (14, "D > Setext", "three"),
    ]


def test_markdown_fences(tmp_path):
    found = blocks(tmp_path, "a.md", "text\n```python\n# no heading\n\nx = 1\n```\nafter\n~~~\nopen\n")
    assert [(b.line, b.kind, b.text) for b in found] == [
        (1, "prose", "text"),
        (3, "code", "# no heading\n\nx = 1"),
        (7, "prose", "after"),
        (9, "code", "open"),
    ]


def test_html(tmp_path):
    source = (
        "<!doctype html><html><head><title>T &amp; U</title><style>p {}</style></head>\n<body><h1>Head\nline</h1>\n"
        "<p>a &lt; b &eacute;<br>c <b>d</b>e\n  f</p><script>var x = '<p>no</p>';</script>\n"
        "<pre>x =\n  1</pre><ul><li>one<li>two</ul><p attr='a\nb'>late</p> tail"
    )
    assert shown(tmp_path, "a.html", source) == [
        (4, "T & U > Head line", "a < b é c de\n f"),
        (6, "T & U > Head line", "x =\n  1"),
        (7, "T & U > Head line", "one"),
        (7, "T & U > Head line", "two"),
        (8, "T & U > Head line", "late"),
        (8, "T & U > Head line", "tail"),
    ]


def test_jsonl_with_broken_lines(tmp_path):
    source = (
        '{"id": "7", "title": "T", "text": "a\\nb", "n": 1, "tags": ["x"]}\n\n{broken\n"plain"\n{"title": "only"}\n'
        '{"text": "half \\ud800 pair"}\n[]\n5\n'
    )
    assert shown(tmp_path, "a.jsonl", source) == [
        (1, "T", "a b\nx"),
        (3, "", "{broken"),
        (4, "", "plain"),
        (5, "", "only"),
        (6, "", "half ? pair"),
    ]


def test_csv_with_quotes_and_line_breaks(tmp_path):
    source = 'name,note\r\n"A, B","says ""hi""\r\nthere"\r\nC,\r\n'
    assert shown(tmp_path, "a.csv", source) == [(2, "", 'name: A, B\nnote: says "hi" there'), (4, "", "name: C")]


def test_csv_without_header_and_other_delimiters(tmp_path):
    assert shown(tmp_path, "a.csv", "1;two\n3;four") == [(1, "", "1\ntwo"), (2, "", "3\nfour")]
    assert shown(tmp_path, "a.tsv", "k\tv\na, b\tc") == [(2, "", "k: a, b\nv: c")]


def test_csv_value_beyond_the_limit_of_the_csv_module(tmp_path):
    found = shown(tmp_path, "a.csv", "a,b\nx," + "y" * 200_000 + "\nlast,z\n")
    assert found[-1][2] == "a: last\nb: z"


def test_python(tmp_path):
    source = (
        '"""About."""\nimport os\n\n@wrap\ndef f(x):\n    """Does it."""\n    return x\n\n'
        'class C:\n    """Holds."""\n\n    def long(self):\n        """Counts."""\n        '
        + "total = 1 + 2 + 3\n        " * 20
        + "return total\n\nX = 1\n"
    )
    found = [(b.line, b.heading, b.text.split("\n")[0].strip()) for b in blocks(tmp_path, "a.py", source)]
    assert found == [
        (1, "", '"""About."""'),
        (2, "", "import os"),
        (4, "f", "@wrap"),
        (9, "C", "class C:"),
        (12, "C.long", "def long(self):"),
        (14, "C.long", "total = 1 + 2 + 3"),
        (36, "", "X = 1"),
    ]


@pytest.mark.parametrize("source", ["def f(:\n  pass", "x = 1\n\0"])
def test_python_that_does_not_parse_is_text(tmp_path, source):
    assert blocks(tmp_path, "a.py", source.replace("\0", " (")) != []


def test_python_warnings_are_not_shown(tmp_path):
    assert blocks(tmp_path, "a.py", 'x = "\\d"\n')


def pdf(pages: list[str]) -> bytes:
    """Return a small PDF with one line of text a page."""
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(len(pages)))
    font = "/Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"]
    for i, text in enumerate(pages):
        stream = f"BT /F 12 Tf 20 20 Td ({text}) Tj ET"
        box = f"/MediaBox [0 0 300 300] /Resources << {font} >> /Contents {4 + 2 * i} 0 R"
        objects += [
            f"<< /Type /Page /Parent 2 0 R {box} >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    body, offsets = "%PDF-1.4\n", []
    for number, text in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{text}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    tail = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF"
    return f"{body}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{tail}".encode()


def test_pdf(tmp_path):
    assert shown(tmp_path, "a.pdf", pdf(["First page.", "Second one."])) == [
        (1, "page 1", "First page."),
        (2, "page 2", "Second one."),
    ]
    with pytest.raises(Unreadable, match="no readable PDF"):
        blocks(tmp_path, "b.pdf", b"%PDF-1.4 broken")


def test_empty_files(tmp_path):
    for name in ("a.txt", "a.md", "a.html", "a.jsonl", "a.csv", "a.py"):
        assert blocks(tmp_path, name, "") == []
        assert blocks(tmp_path, name, "\n \n\n") == []
