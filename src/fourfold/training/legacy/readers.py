r"""Readers of the older training interface: files to lists of ``InputExample``.

Files are UTF-8, plain or gzipped; that is seen from their content. An error names the file, the line and what was
expected there.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from fourfold.errors import InputError
from fourfold.text.example import InputExample
from fourfold.training.legacy._files import Row, at_most, lines_together, rows, split_rows

_NLI_LABELS = {"contradiction": 0, "entailment": 1, "neutral": 2}


class LabelSentenceReader:
    r"""Read one text with the name of its class a line; classes get numbers in the order in which they appear.

    Whitespace around a line is removed. Files read later continue the numbers of those before.

    Args:
        folder: Where the files are.
        label_col_idx: Column of the class, counted from 0.
        sentence_col_idx: Column of the text.
        separator: What stands between columns.

    Attributes:
        label_map: Number of each class that has been met.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "train.tsv").write_text("city\tOslo\nriver\tNile\ncity\tRome\n")
    ...     [(example.texts, example.label) for example in LabelSentenceReader(folder).get_examples("train.tsv")]
    [(['Oslo'], 0), (['Nile'], 1), (['Rome'], 0)]
    """

    def __init__(
        self, folder: str | Path, label_col_idx: int = 0, sentence_col_idx: int = 1, separator: str = "\t"
    ) -> None:
        self.folder = folder
        self.label_map: dict[str, int] = {}
        self.label_col_idx = label_col_idx
        self.sentence_col_idx = sentence_col_idx
        self.separator = separator

    def get_examples(self, filename: str | Path, max_examples: int = 0) -> list[InputExample]:
        """Return the examples of a file: one text each, labelled with the number of its class.

        Args:
            filename: The file, below the folder.
            max_examples: Read so many; 0 reads all.

        Raises:
            InputError: If the file cannot be read, or a line has too few columns.
        """
        examples = []
        found = split_rows(Path(self.folder, filename), separator=self.separator)
        for number, row in enumerate(at_most(found, max_examples)):
            text = row.text(self.sentence_col_idx, "text")
            label = self.label_map.setdefault(row.text(self.label_col_idx, "label"), len(self.label_map))
            examples.append(InputExample(guid=f"{filename}-{number}", texts=[text], label=label))
        return examples


class NLIDataReader:
    r"""Read pairs of texts that contradict each other (0), follow from one another (1), or neither (2).

    A set is three files, ``s1.<name>``, ``s2.<name>`` and ``labels.<name>``, line by line. Texts keep the end of their
    line, as the older library's do.

    Args:
        dataset_folder: Where the files are.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for stem, text in [("s1", "It rains.\n"), ("s2", "It is wet.\n"), ("labels", "entailment\n")]:
    ...         _ = Path(folder, f"{stem}.dev").write_text(text)
    ...     [(example.texts, example.label) for example in NLIDataReader(folder).get_examples("dev")]
    [(['It rains.\n', 'It is wet.\n'], 1)]
    """

    def __init__(self, dataset_folder: str | Path) -> None:
        self.dataset_folder = dataset_folder

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """Return the examples of a set: two texts each, labelled with 0, 1 or 2.

        Args:
            filename: What the three names have in common, such as ``train.gz``.
            max_examples: Read so many; 0 reads all.

        Raises:
            InputError: If a file cannot be read, or a label is unknown.
        """
        paths = [Path(self.dataset_folder, f"{stem}.{filename}") for stem in ("s1", "s2", "labels")]
        examples = []
        for number, (first, second, name) in enumerate(at_most(lines_together(paths), max_examples)):
            try:
                label = self.map_label(name)
            except InputError as error:
                raise InputError(f"{paths[-1]}, line {number + 1}: {error}") from None
            examples.append(InputExample(guid=f"{filename}-{number}", texts=[first, second], label=label))
        return examples

    @staticmethod
    def get_labels() -> dict[str, int]:
        """Return the number of each label.

        >>> NLIDataReader.get_labels()
        {'contradiction': 0, 'entailment': 1, 'neutral': 2}
        """
        return dict(_NLI_LABELS)

    def get_num_labels(self) -> int:
        """Return how many labels there are: 3."""
        return len(self.get_labels())

    def map_label(self, label: str) -> int:
        """Return the number of a label, whatever its case; raises :class:`~fourfold.errors.InputError` if unknown."""
        labels = self.get_labels()
        try:
            return labels[label.strip().lower()]
        except KeyError:
            raise InputError(f"expected a label, one of {', '.join(labels)}, got {label.strip()!r}") from None


class PairedFilesReader:
    r"""Read files that belong together line by line: an example is one line of each, labelled 1.

    Texts keep the end of their line, as the older library's do.

    Args:
        filepaths: The files; at least one.

    Raises:
        InputError: If there are none.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [Path(folder, name) for name in ("en", "de")]
    ...     for path, text in zip(paths, ["yes\nno\n", "ja\nnein\n"]):
    ...         _ = path.write_text(text)
    ...     [(example.texts, example.label) for example in PairedFilesReader(paths).get_examples(max_examples=1)]
    [(['yes\n', 'ja\n'], 1)]
    """

    def __init__(self, filepaths: Sequence[str | Path]) -> None:
        if not filepaths:
            raise InputError("filepaths must name at least one file, got none")
        self.filepaths = filepaths

    def get_examples(self, max_examples: int = 0) -> list[InputExample]:
        """Return the examples, until the first file ends.

        Args:
            max_examples: Read so many; 0 reads all.

        Raises:
            InputError: If a file cannot be read.
        """
        found = at_most(lines_together(self.filepaths), max_examples)
        return [InputExample(guid=str(number), texts=list(texts), label=1) for number, texts in enumerate(found)]


class STSDataReader:
    r"""Read pairs of texts with a score of how similar they are, one pair a line.

    Args:
        dataset_folder: Where the files are.
        s1_col_idx: Column of the first text, counted from 0.
        s2_col_idx: Column of the second text.
        score_col_idx: Column of the score.
        delimiter: What stands between columns.
        quoting: One of the constants of the ``csv`` module; by default quotes mean nothing.
        normalize_scores: Whether to scale scores, so that ``min_score`` is 0 and ``max_score`` is 1. A score outside
            these two is not cut off.
        min_score: The score of texts that have nothing in common.
        max_score: The score of texts that mean the same.

    Raises:
        InputError: If scores are to be scaled and the two are the same.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "dev.tsv").write_text("A cat.\tA kitten.\t4.0\n")
    ...     [(example.texts, example.label) for example in STSDataReader(folder).get_examples("dev.tsv")]
    [(['A cat.', 'A kitten.'], 0.8)]
    """

    def __init__(
        self,
        dataset_folder: str | Path,
        s1_col_idx: int = 0,
        s2_col_idx: int = 1,
        score_col_idx: int = 2,
        delimiter: str = "\t",
        quoting: int = csv.QUOTE_NONE,
        normalize_scores: bool = True,
        min_score: float = 0,
        max_score: float = 5,
    ) -> None:
        if normalize_scores and min_score == max_score:
            raise InputError(f"min_score and max_score must differ for scores to be scaled, both are {min_score}")
        self.dataset_folder = dataset_folder
        self.s1_col_idx = s1_col_idx
        self.s2_col_idx = s2_col_idx
        self.score_col_idx = score_col_idx
        self.delimiter = delimiter
        self.quoting = quoting
        self.normalize_scores = normalize_scores
        self.min_score = min_score
        self.max_score = max_score

    def get_examples(self, filename: str | Path, max_examples: int = 0) -> list[InputExample]:
        """Return the examples of a file: two texts each, labelled with their score.

        Args:
            filename: The file, below the folder.
            max_examples: Read so many; 0 reads all.

        Raises:
            InputError: If the file cannot be read, a line has too few columns, or a score is not a finite number.
        """
        found = rows(Path(self.dataset_folder, filename), delimiter=self.delimiter, quoting=self.quoting)
        return [
            InputExample(
                guid=f"{filename}{number}",
                texts=[row.text(self.s1_col_idx, "first text"), row.text(self.s2_col_idx, "second text")],
                label=self._score(row),
            )
            for number, row in enumerate(at_most(found, max_examples))
        ]

    def _score(self, row: Row) -> float:
        score = row.number(self.score_col_idx, "score")
        if self.normalize_scores:
            score = (score - self.min_score) / (self.max_score - self.min_score)
        return score


class STSBenchmarkDataReader(STSDataReader):
    r"""Read the files of the STS benchmark: as :class:`STSDataReader`, with the columns that they have.

    Args:
        dataset_folder: Where the files are.
        s1_col_idx: Column of the first text, counted from 0.
        s2_col_idx: Column of the second text.
        score_col_idx: Column of the score.
        delimiter: What stands between columns.
        quoting: One of the constants of the ``csv`` module; by default quotes mean nothing.
        normalize_scores: Whether to scale scores, so that ``min_score`` is 0 and ``max_score`` is 1.
        min_score: The score of texts that have nothing in common.
        max_score: The score of texts that mean the same.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "dev.tsv").write_text("captions\timages\t2012\t7\t4.0\tA cat.\tA kitten.\n")
    ...     [(example.texts, example.label) for example in STSBenchmarkDataReader(folder).get_examples("dev.tsv")]
    [(['A cat.', 'A kitten.'], 0.8)]
    """

    def __init__(
        self,
        dataset_folder: str | Path,
        s1_col_idx: int = 5,
        s2_col_idx: int = 6,
        score_col_idx: int = 4,
        delimiter: str = "\t",
        quoting: int = csv.QUOTE_NONE,
        normalize_scores: bool = True,
        min_score: float = 0,
        max_score: float = 5,
    ) -> None:
        super().__init__(
            dataset_folder, s1_col_idx, s2_col_idx, score_col_idx, delimiter, quoting, normalize_scores, min_score,
            max_score,
        )  # fmt: skip


class TripletReader:
    r"""Read three texts a line: one, one that is like it, and one that is not.

    Args:
        dataset_folder: Where the files are.
        s1_col_idx: Column of the text that the others are compared with, counted from 0.
        s2_col_idx: Column of the text that is like it.
        s3_col_idx: Column of the text that is not.
        has_header: Whether the first row is left out.
        delimiter: What stands between columns.
        quoting: One of the constants of the ``csv`` module; by default quotes mean nothing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "train.tsv").write_text("cat\tkitten\ttrain\n")
    ...     [example.texts for example in TripletReader(folder).get_examples("train.tsv")]
    [['cat', 'kitten', 'train']]
    """

    def __init__(
        self,
        dataset_folder: str | Path,
        s1_col_idx: int = 0,
        s2_col_idx: int = 1,
        s3_col_idx: int = 2,
        has_header: bool = False,
        delimiter: str = "\t",
        quoting: int = csv.QUOTE_NONE,
    ) -> None:
        self.dataset_folder = dataset_folder
        self.s1_col_idx = s1_col_idx
        self.s2_col_idx = s2_col_idx
        self.s3_col_idx = s3_col_idx
        self.has_header = has_header
        self.delimiter = delimiter
        self.quoting = quoting

    def get_examples(self, filename: str | Path, max_examples: int = 0) -> list[InputExample]:
        """Return the examples of a file: three texts each, labelled 0.

        Args:
            filename: The file, below the folder.
            max_examples: Read so many, the header not counted; 0 reads all.

        Raises:
            InputError: If the file cannot be read, or a line has too few columns.
        """
        found: Iterator[Row] = rows(Path(self.dataset_folder, filename), delimiter=self.delimiter, quoting=self.quoting)
        if self.has_header:
            next(found, None)
        columns = (
            (self.s1_col_idx, "first text"),
            (self.s2_col_idx, "second text"),
            (self.s3_col_idx, "third text"),
        )
        return [
            InputExample(texts=[row.text(column, meaning) for column, meaning in columns])
            for row in at_most(found, max_examples)
        ]
