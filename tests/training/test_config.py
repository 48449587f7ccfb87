"""A training's file: what is read, what is refused, and what is built of it."""

import csv
import gzip
import json

import pytest
import yaml

from fourfold.errors import InputError
from fourfold.testing import tiny_folder
from fourfold.training._config_data import load, parse
from fourfold.training._config_file import Faults, parse_override, put, read_yaml
from fourfold.training.config import build, plan, read_config

ROWS = [
    {"a": f"the text {i}", "b": f"a document {i % 3}", "score": i / 8, "label": i % 2, "kind": "yes" if i % 2 else "no"}
    for i in range(8)
]


@pytest.fixture
def data(tmp_path):
    """Files of the same eight rows in every format."""
    for name, delimiter in (("rows.csv", ","), ("rows.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(ROWS)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "rows.jsonl").write_text(lines)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    return tmp_path


@pytest.fixture
def written(data):
    """What writes a file: a small one of a dense model, with changes."""

    def write(kind="dense", **changes):
        tree = {
            "model": str(tiny_folder(kind)),
            "datasets": {"train": {"path": str(data / "rows.csv"), "columns": ["a", "b", "score"]}},
            "arguments": {"output_dir": str(data / "out"), "use_cpu": True, "dataloader_pin_memory": False},
        }
        for key, value in changes.items():
            tree[key] = {**tree[key], **value} if key in ("arguments", "datasets") and value else value
        path = data / "config.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}))
        return path

    return write


def faults_of(path, **overrides):
    with pytest.raises(InputError) as caught:
        read_config(path, overrides)
    return str(caught.value)


def rows_of(given, **options):
    faults = Faults()
    source = parse(given, "datasets.train", faults)
    faults.check("file")
    return load(source, **options)


# -- yaml --------------------------------------------------------------------------------------------------------------


def test_words_and_numbers_are_what_they_look_like(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 2e-5\nb: no\nc: 1:30\nd: 010\ne: 2024-01-01\nf: true\ng: 1_000\nh: .5\ni: 1.\nj: -3\nk: off\n")
    found = read_yaml(path, Faults())
    assert found == {
        "a": 2e-5, "b": "no", "c": "1:30", "d": "010", "e": "2024-01-01", "f": True, "g": 1000, "h": 0.5, "i": 1.0,
        "j": -3, "k": "off",
    }  # fmt: skip


def test_a_key_twice_is_told_with_its_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("model: a\nloss:\n  name: x\n  name: y\nmodel: b\n")
    faults = Faults()
    read_yaml(path, faults)
    assert faults.found == ["line 5: the key 'model' comes twice", "line 4: the key 'name' comes twice"]


def test_what_is_no_yaml(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("model: [a\nloss: b\n")
    with pytest.raises(InputError, match=r"x\.yaml, line \d is not valid YAML"):
        read_yaml(path, Faults())
    path.write_text("- a\n")
    assert "must hold a mapping" in faults_of(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(path, Faults())


def test_overrides():
    assert parse_override("arguments.prompts={query: 'q: '}") == ("arguments.prompts", {"query": "q: "})
    assert parse_override("a=b=c") == ("a", "b=c")
    with pytest.raises(InputError, match="KEY=VALUE"):
        parse_override("arguments.seed")
    tree, faults = {"a": {"b": 1}, "list": [{"x": 1}], "none": None, "text": "t"}, Faults()
    put(tree, "a.b", 2, faults)
    put(tree, "a.c.d", 3, faults)
    put(tree, "list.0.x", 4, faults)
    put(tree, "none.y", 5, faults)
    assert tree == {"a": {"b": 2, "c": {"d": 3}}, "list": [{"x": 4}], "none": {"y": 5}, "text": "t"}
    assert not faults.found
    put(tree, "text.z", 6, faults)
    put(tree, "text.z.z", 6, faults)
    assert len(faults.found) == 2


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_every_kind_of_file_gives_the_same_rows(data, name):
    found = rows_of({"path": str(data / name), "columns": ["b", "a", "score"], "rename": {"a": "anchor"}, "limit": 5})
    assert found.column_names == ["b", "anchor", "score"]
    assert list(found) == [{"b": row["b"], "anchor": row["a"], "score": row["score"]} for row in ROWS[:5]]


def test_several_files_and_patterns(data):
    several = rows_of({"path": [str(data / "rows.csv"), str(data / "rows.tsv")], "columns": ["a"]})
    assert len(several) == 16
    assert len(rows_of({"path": str(data / "rows.*sv"), "columns": ["a"], "limit": 11})) == 11
    assert len(rows_of(str(data / "rows.jsonl"))) == 8


def test_text_stays_text(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a,label\n"001, x",1\nNA,0\n"two\nlines",1\n')
    assert list(rows_of(str(path))) == [
        {"a": "001, x", "label": 1}, {"a": "NA", "label": 0}, {"a": "two\nlines", "label": 1},
    ]  # fmt: skip


def test_names_of_labels(data):
    given = {"path": str(data / "rows.jsonl"), "columns": ["a", "b", "kind"], "rename": {"kind": "label"}}
    assert rows_of({**given, "classes": ["no", "yes"]})["label"][:4] == [0, 1, 0, 1]
    with pytest.raises(InputError, match=r"holds 'yes'; classes are no"):
        rows_of({**given, "classes": ["no"]})
    with pytest.raises(InputError, match="classes"):
        rows_of(given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1\n", "line 2 has 1 cells, the header has 2"),
        ("a,a\n1,2\n", "same name"),
        ("a,b\n", "no rows"),
        ('a,b\n"x,y\n', "not valid CSV"),
    ],
)
def test_what_is_no_table(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        rows_of(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": "x"}\n{"a"\n', "line 2 is not valid JSON"),
        ('{"a": "x"}\n[1]\n', "line 2 must hold a JSON object"),
        ('{"a": "x"}\n{"b": "y"}\n', "'a' is empty in 1 of 2 rows"),
        ('{"a": "x"}\n{"a": 1}\n', "several kinds"),
    ],
)
def test_what_is_no_json_lines(tmp_path, content, message):
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        rows_of(str(path))


def test_a_file_that_is_no_whole_gzip(data):
    packed = (data / "rows.jsonl.gz").read_bytes()
    (data / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="not a whole gzip"):
        rows_of(str(data / "cut.jsonl.gz"))


# -- faults ------------------------------------------------------------------------------------------------------------


def test_all_faults_at_once(written, data):
    path = written(
        datasets={
            "train": {"path": str(data / "row.csv")},
            "eval": {"path": str(data / "rows.csv"), "columns": ["a", "skore"], "limit": 0},
        },
        arguments={"num_epochs": 2, "learning_rate": "fast", "batch_sampler": "no_duplicate", "seed": 1.5},
        loss={"name": "CoSENTLos"},
        evaluators=[{"name": "TripletEvaluators"}, {"name": "TripletEvaluator", "anchor": 1}],
        peft={"rr": 8},
        sede=1,
    )
    text = faults_of(path)
    for line in (
        "sede: unknown key.",
        f"datasets.train.path: there is no file {str(data / 'row.csv')!r}. Did you mean 'rows.csv'?",
        "datasets.eval: columns names 'skore'",
        "datasets.eval.limit: must be a whole number of at least 1, got 0",
        "arguments.num_epochs: unknown key. Did you mean 'num_train_epochs'?",
        "arguments.learning_rate: must be a number, got 'fast'",
        "arguments.batch_sampler: must be one of",
        "arguments.seed: must be a whole number, got 1.5",
        "loss: there is no loss 'CoSENTLos'. Did you mean 'CoSENTLoss'?",
        "evaluators.0.name: there is no evaluator 'TripletEvaluators'. Did you mean 'TripletEvaluator'?",
        "evaluators.1.anchor: unknown key. Did you mean 'anchors'?",
        "peft.rr: unknown key. Did you mean 'r'?",
    ):
        assert f"\n  {line}" in text
    assert text.startswith(f"{path} has ")


def test_what_is_missing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    text = faults_of(path)
    for key in ("model: is missing", "datasets.train: is missing", "arguments.output_dir: is missing"):
        assert key in text


def test_family_and_model(written):
    assert read_config(written("sparse")).family == "sparse"
    assert read_config(written("cross")).family == "cross"
    assert read_config(written("dense", family="sparse")).family == "sparse"
    assert "Did you mean 'sparse'" in faults_of(written(family="sparce"))
    assert "model: model folder '/no/such/model' does not exist" in faults_of(written(model="/no/such/model"))
    assert "Did you mean 'truncate_dim'" in faults_of(written(model={"name": str(tiny_folder()), "truncate_dims": 8}))
    model = build(
        read_config(written(model={"name": str(tiny_folder()), "truncate_dim": 8, "max_seq_length": 9}))
    ).model
    assert (model.truncate_dim, model.max_seq_length) == (8, 9)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("MultipleNegativeRankingLoss", "Did you mean 'MultipleNegativesRankingLoss'"),
        ({"scale": 1}, "loss.name: is missing"),
        ({"name": "MatryoshkaLoss", "loss": "CoSENTLoss"}, "loss.matryoshka_dims: is missing"),
        ({"name": "MatryoshkaLoss", "matryoshka_dims": [8], "loss": {"name": "CoSENTLoss", "skale": 1}},
         "loss.loss.skale: unknown key. Did you mean 'scale'?"),
        ({"name": "CoSENTLoss", "similarity_fct": "cosin"}, "loss.similarity_fct: must be one of"),
        ({"name": "ContrastiveLoss", "distance_metric": "euclidian"}, "Did you mean 'euclidean'"),
        ({"name": "CosineSimilarityLoss", "loss_fct": "L2Loss"}, "torch.nn"),
        ({"by_dataset": {"one": "CoSENTLoss"}}, "needs several data sets"),
    ],
)  # fmt: skip
def test_losses_that_cannot_be(written, loss, message):
    assert message in faults_of(written(loss=loss))


def test_yes_and_no_are_words_of_their_argument(written):
    read = read_config(written(), {"arguments.save_strategy": "no", "arguments.logging_first_step": "yes"})
    assert (read.arguments["save_strategy"], read.arguments["logging_first_step"]) == ("no", True)


# -- building ----------------------------------------------------------------------------------------------------------


def test_the_arguments_reach_the_trainer(written):
    prompts = {"a": "query: "}
    path = written(arguments={"prompts": prompts, "batch_sampler": "no_duplicates", "learning_rate": 1e-3})
    trainer = build(read_config(path, {"arguments.per_device_train_batch_size": 4}))
    args = trainer.args
    assert (args.prompts, args.batch_sampler.value, args.learning_rate) == (prompts, "no_duplicates", 1e-3)
    assert args.per_device_train_batch_size == 4
    assert (args.report_to, args.logging_steps, args.eval_strategy.value) == ([], 0.02, "no")
    assert type(trainer.loss).__name__ == "CoSENTLoss"


def test_losses_are_built(written):
    from fourfold.losses import SiameseDistanceMetric
    from fourfold.ops.similarity import pairwise_dot_score

    inner = {"name": "CoSENTLoss", "similarity_fct": "dot", "scale": 5.0}
    loss = build(read_config(written(loss={"name": "MatryoshkaLoss", "matryoshka_dims": [32, 8], "loss": inner}))).loss
    assert type(loss).__name__ == "MatryoshkaLoss"
    assert (loss.loss.similarity_fct, loss.loss.scale) == (pairwise_dot_score, 5.0)
    columns = ["a", "b", "label"]
    train = {"train": {"path": str(written().parent / "rows.csv"), "columns": columns}}
    loss = build(read_config(written(datasets=train, loss={"name": "SoftmaxLoss", "num_labels": 2}))).loss
    assert loss.classifier.in_features == 3 * 32
    given = {"name": "ContrastiveLoss", "distance_metric": "euclidean"}
    loss = build(read_config(written(datasets=train, loss=given))).loss
    assert loss.distance_metric is SiameseDistanceMetric.EUCLIDEAN
    given = {"name": "CosineSimilarityLoss", "loss_fct": "L1Loss"}
    assert type(build(read_config(written(loss=given))).loss.loss_fct).__name__ == "L1Loss"
    guided = {"name": "GISTEmbedLoss", "guide": str(tiny_folder(seed=1))}
    pairs = {"train": {"path": str(written().parent / "rows.csv"), "columns": ["a", "b"]}}
    assert type(build(read_config(written(datasets=pairs, loss=guided))).loss.guide).__name__ == "SentenceTransformer"


def test_a_loss_for_each_of_several_data_sets(written, data):
    file = str(data / "rows.jsonl")
    datasets = {
        "train": {
            "pairs": {"path": file, "columns": ["a", "b"]},
            "scored": {"path": file, "columns": ["a", "b", "score"]},
        }
    }
    losses = {"by_dataset": {"pairs": "MultipleNegativesRankingLoss", "scored": "CoSENTLoss"}}
    trainer = build(read_config(written(datasets=datasets, loss=losses)))
    made = plan(trainer)
    assert made.losses == {"pairs": "MultipleNegativesRankingLoss", "scored": "CoSENTLoss"}
    assert made.rows == {"pairs": 8, "scored": 8}
    losses["by_dataset"]["scores"] = losses["by_dataset"].pop("scored")
    assert "loss.by_dataset.scores: unknown key. Did you mean 'scored'?" in faults_of(
        written(datasets=datasets, loss=losses)
    )


def test_sparse_and_cross_losses(written, data):
    nested = {
        "name": "SpladeLoss", "loss": "SparseMultipleNegativesRankingLoss", "document_regularizer_weight": 1e-3,
        "query_regularizer_weight": 1e-3,
    }  # fmt: skip
    pairs = {"train": {"path": str(data / "rows.csv"), "columns": ["a", "b"]}}
    trainer = build(read_config(written("sparse", datasets=pairs, loss=nested)))
    assert plan(trainer).losses[""].startswith("SpladeLoss(SparseMultipleNegativesRankingLoss")
    labelled = {"train": {"path": str(data / "rows.csv"), "columns": ["a", "b", "label"]}}
    weighted = {"name": "BinaryCrossEntropyLoss", "pos_weight": 2}
    trainer = build(read_config(written("cross", datasets=labelled, loss=weighted)))
    assert plan(trainer).columns == {"": ["a", "b", "label"]}


def test_evaluators_are_built(written, data):
    queries = [{"_id": 1, "text": "the text 1"}, {"_id": 2, "text": "the text 2"}]
    corpus = [{"_id": f"d{i}", "title": "a", "text": f"document {i}"} for i in range(4)]
    (data / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (data / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    (data / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\td1\t1\n1\td2\t0\n2\td3\t2\n")
    evaluators = [
        {"name": "EmbeddingSimilarityEvaluator", "label": "dev", "data": str(data / "rows.csv"),
         "columns": {"sentences1": "a", "sentences2": "b", "scores": "score"}, "main_similarity": "cosine"},
        {"name": "TripletEvaluator", "data": {"path": str(data / "rows.csv"), "rename": {"a": "anchors"}},
         "columns": {"positives": "b", "negatives": "b"}},
        {"name": "InformationRetrievalEvaluator", "queries": str(data / "queries.jsonl"),
         "corpus": {"path": str(data / "corpus.jsonl"), "text": ["title", "text"]},
         "relevant": {"path": str(data / "qrels.tsv"), "document": "corpus-id"}, "ndcg_at_k": [3]},
    ]  # fmt: skip
    trainer = build(read_config(written(evaluators=evaluators)))
    scored, triplets, retrieval = trainer.evaluator.evaluators
    assert (scored.name, scored.scores, scored.sentences1[1]) == ("dev", [i / 8 for i in range(8)], "the text 1")
    assert triplets.anchors[:2] == ["the text 0", "the text 1"]
    assert retrieval.relevant_docs == {"1": {"d1"}, "2": {"d3"}}
    assert (retrieval.corpus[1], retrieval.corpus_ids[1], retrieval.ndcg_at_k) == ("a document 1", "d1", [3])
    assert trainer.args.eval_strategy.value == "epoch"
    assert "dev_spearman_cosine" in trainer.evaluator(trainer.model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"sentences1": "a", "sentences2": "b"}}, "evaluators.0.scores: is missing"),
        ({"columns": {"sentences1": "a", "sentences2": "bb", "scores": "score"}}, "there is no column 'bb'"),
        ({"columns": {"sentence1": "a"}}, "Did you mean 'sentences1'"),
        ({"data": {"path": "nothing.csv"}}, "evaluators.0.data.path: there is no file 'nothing.csv'"),
        ({"data": None}, "names columns, and there is no data"),
        ({"name": None}, "evaluators.0.name: is missing"),
    ],
)
def test_evaluators_that_cannot_be(written, data, change, message):
    given = {
        "name": "EmbeddingSimilarityEvaluator", "data": {"path": str(data / "rows.csv")},
        "columns": {"sentences1": "a", "sentences2": "b", "scores": "score"},
    }  # fmt: skip
    assert message in faults_of(written(evaluators=[{**given, **change}]))


def test_faults_of_building_come_together(written, data):
    (data / "gap.jsonl").write_text('{"a": "x", "b": "y"}\n{"a": "x"}\n')
    path = written(
        datasets={"train": {"path": str(data / "gap.jsonl")}},
        arguments={"load_best_model_at_end": True, "save_strategy": "epoch"},
        model={"name": str(tiny_folder()), "default_prompt_name": "nothing"},
    )
    with pytest.raises(InputError) as caught:
        build(read_config(path))
    for line in ("datasets.train: the column 'b' is empty", "arguments: ", "model: "):
        assert f"\n  {line}" in str(caught.value)


def test_the_trainer_checks_columns_against_the_loss(written, data):
    pairs = {"train": {"path": str(data / "rows.csv"), "columns": ["a", "b"]}}
    with pytest.raises(InputError, match=r"config\.yaml: train_dataset: CoSENTLoss needs labels"):
        build(read_config(written(datasets=pairs)))


def test_an_adapter(written):
    pytest.importorskip("peft")
    path = written(peft={"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"]})
    model = build(read_config(path)).model
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)


def test_the_plan(written):
    path = written(
        arguments={"per_device_train_batch_size": 3, "num_train_epochs": 2, "gradient_accumulation_steps": 2}
    )
    trainer = build(read_config(path))
    made = plan(trainer)
    # Three batches an epoch, of which two make a step.
    assert (made.steps, made.batch_size, made.epochs) == (4, 6, 2.0)
    assert (made.rows, made.columns) == ({"": 8}, {"": ["a", "b", "score"]})
    assert made.first_loss > 0
    assert plan(build(read_config(path, {"arguments.max_steps": 7}))).steps == 7
