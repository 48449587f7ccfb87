"""Readers and datasets of the older training interface beside the older library's: the same examples, in one order."""

import csv
import gzip
import itertools
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from fourfold import SentenceTransformer
from fourfold.errors import InputError
from fourfold.testing import tiny_folder
from fourfold.text.example import InputExample
from fourfold.training.legacy import denoising as ours_denoising
from fourfold.training.legacy import readers as ours_readers
from fourfold.training.legacy.no_duplicates_loader import NoDuplicatesDataLoader
from fourfold.training.legacy.parallel_sentences import ParallelSentencesDataset
from fourfold.training.legacy.sentence_label import SentenceLabelDataset
from fourfold.training.legacy.sentences import SentencesDataset

# Both models compute the same vectors; a batch of other neighbours changes their last bits.
VECTORS = 1e-6


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers.sentence_transformer import datasets, readers

    return SimpleNamespace(datasets=datasets, readers=readers)


def plain(examples):
    return [(example.guid, example.texts, example.label) for example in examples]


def state():
    numpy_state = np.random.get_state()  # noqa: NPY002
    return random.getstate(), numpy_state[1].tolist(), numpy_state[2]


def seeded(seed, function):
    """What a function returns, and in which state it leaves the generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    return function(), state()


FILES = {
    "labels.tsv": "city\tOslo \textra\r\n river\tNile\ncity\t\u2028Rome\nlake\t\"Como\"\n",
    "turned.csv": "Oslo||city\nNile||river\n",
    "s1.train.gz": "one\n two \r\nthree\n",
    "s2.train.gz": "1\n2\n3\n4\n",
    "labels.train.gz": " Neutral\nentailment\ncontradiction",
    "sts.tsv": 'a\tb\t5\nc \t d\t2.5\n"q"\te\t-1\textra\nx\x85\tå\t 1_0 \n',
    "sts.tsv.gz": "a\tb\t0\n",
    "sts.csv": '"a, ""x""",b,1\r\n"m\r\nl",b,2\n x, y , 3 \n',
    "bench.tsv": "g\tf\ty\tid\t4.0\tone\ttwo\nh\tf\ty\tid\t1\t \tthree\tmore\n",
    "triplets.tsv": "h\ti\tj\na\tb\tc\nd \te\t\n",
}  # fmt: skip

READERS = [
    ("LabelSentenceReader", {}, "labels.tsv"),
    ("LabelSentenceReader", {"label_col_idx": 1, "sentence_col_idx": 0, "separator": "||"}, "turned.csv"),
    ("NLIDataReader", {}, "train.gz"),
    ("STSDataReader", {}, "sts.tsv"),
    ("STSDataReader", {}, "sts.tsv.gz"),
    ("STSDataReader", {"normalize_scores": False}, "sts.tsv"),
    ("STSDataReader", {"min_score": 1, "max_score": 4}, "sts.tsv"),
    ("STSDataReader", {"min_score": 5, "max_score": 0}, "sts.tsv"),
    ("STSDataReader", {"s1_col_idx": 1, "s2_col_idx": 0, "score_col_idx": 2}, "sts.tsv"),
    ("STSDataReader", {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL}, "sts.csv"),
    ("STSBenchmarkDataReader", {}, "bench.tsv"),
    ("TripletReader", {}, "triplets.tsv"),
    ("TripletReader", {"has_header": True, "s1_col_idx": 2, "s3_col_idx": 0}, "triplets.tsv"),
    ("TripletReader", {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL}, "sts.csv"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, text in FILES.items():
        data = text.encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(folder)


@pytest.mark.parametrize("most", [0, 1, 2, -1, 99])
@pytest.mark.parametrize(("name", "options", "file"), READERS, ids=lambda value: str(value)[:50])
def test_readers(theirs, folder, name, options, file, most):
    made = [getattr(module, name)(folder, **options) for module in (ours_readers, theirs.readers)]
    ours, older = (plain(reader.get_examples(file, max_examples=most)) for reader in made)
    assert ours == older
    assert ours
    for attribute, value in vars(made[1]).items():
        assert getattr(made[0], attribute) == value


def test_classes_keep_their_numbers(theirs, folder):
    made = [module.LabelSentenceReader(folder) for module in (ours_readers, theirs.readers)]
    for reader in made:
        reader.get_examples("labels.tsv", 2)
        reader.get_examples("bench.tsv")
        reader.get_examples("labels.tsv")
    assert made[0].label_map == made[1].label_map
    assert list(made[0].label_map) == list(made[1].label_map)


def test_labels(theirs):
    ours, older = ours_readers.NLIDataReader("x"), theirs.readers.NLIDataReader("x")
    assert ours.get_labels() == older.get_labels()
    assert ours.get_num_labels() == older.get_num_labels()
    for label in ("neutral", " Contradiction\n", "ENTAILMENT"):
        assert ours.map_label(label) == older.map_label(label)


@pytest.mark.parametrize("most", [0, 1, 2, 99])
@pytest.mark.parametrize(
    "files", [["labels.tsv"], ["s1.train.gz", "triplets.tsv"], ["sts.csv", "sts.tsv.gz", "bench.tsv"]]
)
def test_paired_files(theirs, folder, files, most):
    paths = [f"{folder}/{name}" for name in files]
    made = [module.PairedFilesReader(paths) for module in (ours_readers, theirs.readers)]
    ours, older = (plain(reader.get_examples(max_examples=most)) for reader in made)
    assert ours == older


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("LabelSentenceReader", "label\n", IndexError),
        ("STSDataReader", "a\tb\tbest\n", ValueError),
        ("STSDataReader", "a\tb\n", IndexError),
        ("TripletReader", "a\tb\n\n", IndexError),
    ],
)
def test_what_cannot_be_read(theirs, tmp_path, name, text, error):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(error):
        getattr(theirs.readers, name)(str(tmp_path)).get_examples("a.tsv")
    with pytest.raises(InputError, match=r"a\.tsv, line 1: expected"):
        getattr(ours_readers, name)(str(tmp_path)).get_examples("a.tsv")


def numbered(labels):
    return [InputExample(texts=[str(number)], label=label) for number, label in enumerate(labels)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("with_replacement", [False, True])
def test_groups_of_one_label(theirs, seed, size, with_replacement):
    draw = random.Random(seed)
    examples = numbered(draw.choices([0, 1, 2, 7, 2.5], k=draw.randint(0, 25)))

    def passes(cls):
        dataset = cls(examples, samples_per_label=size, with_replacement=with_replacement)
        return len(dataset), [list(dataset) for _ in range(3)]

    ours, older = (seeded(seed, lambda cls=cls: passes(cls)) for cls in
                   (SentenceLabelDataset, theirs.datasets.SentenceLabelDataset))  # fmt: skip
    assert ours == older


TEXTS = [
    ["a"],
    ["A "],
    [" b"],
    ["c"],
    ["a"],
    ["d"],
    ["e"],
    ["F"],
    ["f\n"],
    ["g"],
    ["h", "i"],
    ["i", "h"],
    ["j", "j"],
    [1],
]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1, 2, 3, 5, 20])
def test_batches_without_duplicates(theirs, seed, size):
    def passes(cls):
        examples = [InputExample(texts=texts) for texts in TEXTS]
        loader = cls(examples, batch_size=size)
        found = [[[example.texts for example in batch] for batch in loader] for _ in range(3)]
        loader.collate_fn = len
        return len(loader), found, list(loader), [example.texts for example in loader.train_examples]

    ours, older = (seeded(seed, lambda cls=cls: passes(cls)) for cls in
                   (NoDuplicatesDataLoader, theirs.datasets.NoDuplicatesDataLoader))  # fmt: skip
    assert ours == older


def test_a_list_of_examples(theirs):
    examples = numbered([1, 2])
    ours, older = SentencesDataset(examples, None), theirs.datasets.SentencesDataset(examples, None)
    assert [ours[0], ours[1], len(ours)] == [older[0], older[1], len(older)]


@pytest.fixture(scope="module")
def models(st):
    folder = str(tiny_folder("dense", "bert"))
    return SentenceTransformer(folder, device="cpu"), st.SentenceTransformer(folder, device="cpu")


def rows_in_their_order(name, count):
    """Rows whose texts the older library, which keeps them in sets, takes in the order in which they are given."""
    rows = ([f"{name}{number}", f"to {number}", f"{name} of {number}"] for number in itertools.count())
    kept = (row for row in rows if all(list(set(other)) == row for other in itertools.permutations(row)))
    return list(itertools.islice(kept, count))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (5, 2)])
def test_translations(theirs, models, seed, use_cache, weights):
    rows = [rows_in_their_order(name, 5) for name in "xy"]

    def items(cls, model):
        dataset = cls(None, model, batch_size=2, use_embedding_cache=use_cache)
        for part, weight in zip(rows, weights, strict=True):
            dataset.add_dataset(part, weight=weight)
        return len(dataset), [dataset[number] for number in range(60)]

    (ours, our_state), (older, their_state) = (
        seeded(seed, lambda cls=cls, model=model: items(cls, model))
        for cls, model in ((ParallelSentencesDataset, models[0]), (theirs.datasets.ParallelSentencesDataset, models[1]))
    )
    assert our_state == their_state
    assert ours[0] == older[0]
    for one, other in zip(ours[1], older[1], strict=True):
        assert (one.guid, one.texts) == (other.guid, other.texts)
        assert isinstance(one.label, np.ndarray)
        assert one.label.dtype == other.label.dtype
        np.testing.assert_allclose(one.label, other.label, atol=VECTORS)


class Teacher:
    """Embeds a text as itself."""

    def encode(self, texts, **options):
        return list(texts)


ROWS = [
    ["x" * 129, "b"], ["a ", "b", "c"], ["d", "", "e"], ["d", "q"], ["d", "e", "e"], ["f"], ['"g"', "h"],
    ["i", "y" * 128], ["j", "ü" * 129], ["a ", "k"],
]  # fmt: skip


@pytest.mark.parametrize("packed", [None, False, True])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"max_sentences": 1}, {"max_sentences": 2}, {"max_sentences": 4}, {"max_sentences": 0},
        {"max_sentences": -1}, {"max_sentence_length": 1}, {"max_sentence_length": 0}, {"max_sentence_length": None},
        {"max_sentence_length": -1}, {"weight": 2}, {"max_sentences": 3, "max_sentence_length": 2},
    ],
    ids=str,
)  # fmt: skip
def test_translations_that_are_taken(theirs, tmp_path, packed, options):
    """The same texts with the same sources, in turns of the same sources, whatever order their texts are in."""
    text = "".join("\t".join(row) + " \r\n" for row in ROWS) + "\n \tspace\n"
    path = tmp_path / ("rows.tsv.gz" if packed else "rows.tsv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = []
    for cls in (ParallelSentencesDataset, theirs.datasets.ParallelSentencesDataset):
        random.seed(0)
        dataset = cls(None, Teacher())
        if packed is None:
            dataset.add_dataset(ROWS, **{"weight": 100, **options})
        else:
            dataset.load_data(str(path), **{"weight": 100, **options})
        items = [dataset[0] for _ in range(len(dataset))]
        found.append((len(dataset), items, dataset.datasets[0], state()))
    ours, older = found
    assert ours[0] == older[0]
    assert [(source, set(texts)) for source, texts in ours[2]] == [(source, set(texts)) for source, texts in older[2]]
    assert ours[3] == older[3]


def test_turns_hold_the_same_texts(theirs):
    rows = [[f"{number}", f"a{number}", f"b{number}"] for number in range(6)]
    found = []
    for cls in (ParallelSentencesDataset, theirs.datasets.ParallelSentencesDataset):
        random.seed(0)
        dataset = cls(None, Teacher())
        dataset.add_dataset(rows, weight=4)
        turns = [[dataset[0] for _ in range(12)] for _ in range(10)]
        found.append([Counter((item.texts[0], item.label) for item in turn) for turn in turns])
    assert found[0] == found[1]


def forget_data(nltk):
    """Let nltk, and us, look for its data anew."""
    nltk.data.clear_cache()
    ours_denoising._finds_sentences.cache_clear()
    kept = getattr(nltk.tokenize, "_get_punkt_tokenizer", None)
    if kept is not None:
        kept.cache_clear()


@pytest.fixture
def sentence_data(tmp_path):
    """The data that nltk finds sentences with, untrained: what is needed of it here is that it is there."""
    nltk = pytest.importorskip("nltk")
    punkt = pytest.importorskip("nltk.tokenize.punkt")
    if not hasattr(punkt, "save_punkt_params"):
        pytest.skip("older releases of nltk keep this data as pickles")
    place = tmp_path / "tokenizers" / "punkt_tab" / "english"
    place.mkdir(parents=True)
    nltk.data.path.insert(0, str(tmp_path))
    punkt.save_punkt_params(punkt.PunktParameters(), str(place))
    forget_data(nltk)
    yield
    nltk.data.path.remove(str(tmp_path))
    forget_data(nltk)


@pytest.mark.parametrize("ratio", [0, 0.3, 0.6, 1])
def test_damaged_texts(theirs, sentence_data, ratio):
    draw = random.Random(0)
    words = ["Hello", "world.", "isn't", "(a", "b)", '"x"', ",", "?", "cannot", "...", "It"]
    texts = ["", "  ", "one", "Two cats. One dog.", *(" ".join(draw.choices(words, k=n)) for n in range(30))]
    ours, older = (
        seeded(1, lambda cls=cls: [cls.delete(text, del_ratio=ratio) for text in texts for _ in range(3)])
        for cls in (ours_denoising.DenoisingAutoEncoderDataset, theirs.datasets.DenoisingAutoEncoderDataset)
    )
    assert ours == older
    ours, older = (
        seeded(1, lambda cls=cls: (plain(map(cls(texts).__getitem__, range(len(texts)))), len(cls(texts))))
        for cls in (ours_denoising.DenoisingAutoEncoderDataset, theirs.datasets.DenoisingAutoEncoderDataset)
    )
    assert ours == older


def test_other_damage(theirs):
    pytest.importorskip("nltk")
    ours, older = (
        plain([cls(["some text"], noise_fn=str.upper)[0]])
        for cls in (ours_denoising.DenoisingAutoEncoderDataset, theirs.datasets.DenoisingAutoEncoderDataset)
    )
    assert ours == older


def test_words_are_found_without_data(theirs, monkeypatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [])
    forget_data(nltk)
    try:
        with pytest.raises(LookupError):
            theirs.datasets.DenoisingAutoEncoderDataset(["Two cats. One dog."])[0]
        damaged, original = ours_denoising.DenoisingAutoEncoderDataset(["Two cats. One dog."])[0].texts
    finally:
        forget_data(nltk)
    assert damaged
    assert original == "Two cats. One dog."
