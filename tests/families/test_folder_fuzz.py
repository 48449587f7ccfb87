"""Thousands of model folders with something wrong in them: each loads and encodes, or says what is wrong and where.

Whatever a folder holds, no file outside it is read, no code of it is run, and nothing is asked of a network.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import runs, wordpiece

from fourfold import CrossEncoder, SentenceTransformer, SparseEncoder
from fourfold.errors import FourfoldError
from fourfold.modules import (
    Dense,
    LogitScore,
    Normalize,
    Pooling,
    Router,
    SparseAutoEncoder,
    SparseStaticEmbedding,
    SpladePooling,
    StaticEmbedding,
    Transformer,
    registry,
)

pytestmark = pytest.mark.slow

TEXTS = ["the quick brown fox", ""]
WIDTH = 8
CANARY = "canary"
"""A Python file of the folder that must never be imported."""


# -- the folders that are broken ---------------------------------------------------------------------------------------


def fast_tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=wordpiece(), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )


def save_checkpoint(folder: Path, kind: str, **labels: Any) -> None:
    import transformers

    config = transformers.BertConfig(
        vocab_size=wordpiece().get_vocab_size(), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=32, **labels,
    )  # fmt: skip
    getattr(transformers, kind)(config).save_pretrained(folder)
    fast_tokenizer().save_pretrained(folder)


def bert(folder: Path) -> None:
    save_checkpoint(folder / "checkpoint", "BertModel")
    modules = [Transformer(str(folder / "checkpoint")), Pooling(WIDTH, ("mean", "cls")), Dense(2 * WIDTH, 4)]
    SentenceTransformer(modules=modules, device="cpu", prompts={"query": "q: "}).save(folder / "model")


def table(width: int = WIDTH) -> StaticEmbedding:
    return StaticEmbedding(wordpiece(), torch.randn(wordpiece().get_vocab_size(), width))


def static(folder: Path) -> None:
    modules = [table(), Dense(WIDTH, 4), Normalize()]
    prompts = {"query": "q: ", "other": "o"}
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts, default_prompt_name="other").save(
        folder / "model"
    )


def router(folder: Path) -> None:
    routes = {"query": [table(), Dense(WIDTH, 4)], "document": [table(), Dense(WIDTH, 4)]}
    mappings = {("find", None): "query"}
    SentenceTransformer(modules=[Router(routes, route_mappings=mappings)], device="cpu").save(folder / "model")


def words(folder: Path) -> None:
    from fourfold.modules.tokenizer.whitespace_tokenizer import WhitespaceTokenizer

    vocabulary = ["PADDING_TOKEN", "quick", "brown", "fox"]
    tokenizer = WhitespaceTokenizer(vocabulary, stop_words=["the"])
    modules = [
        registry.get("WordEmbeddings")(tokenizer, np.ones((4, WIDTH), dtype=np.float32)),
        registry.get("WordWeights")(vocabulary, {"fox": 2.0}),
        registry.get("CNN")(WIDTH, out_channels=4),
        registry.get("LSTM")(12, 4),
        Pooling(8),
        registry.get("LayerNorm")(8),
        registry.get("Dropout")(0.1),
    ]
    SentenceTransformer(modules=modules, device="cpu").save(folder / "model", safe_serialization=False)


def bag(folder: Path) -> None:
    SentenceTransformer(modules=[registry.get("BoW")(["fox", "dog"]), Dense(2, 3)], device="cpu").save(folder / "model")


def weights(folder: Path) -> None:
    """A sparse model that is a JSON file of weights by token."""
    SparseEncoder(modules=[SparseStaticEmbedding(fast_tokenizer())], device="cpu").save(folder / "model")
    (folder / "model" / "idf.json").write_text(json.dumps({"quick": 2.5, "brown": 1, "##x": 0.25}))
    (folder / "model" / "config.json").write_text(json.dumps({"frozen": True, "path": "idf.json"}))
    (folder / "model" / "model.safetensors").unlink()


def units(folder: Path) -> None:
    """A sparse auto-encoder on a dense body, with fewer active units than it has."""
    modules = [table(), SparseAutoEncoder(WIDTH, 40, k=4, k_aux=8)]
    SparseEncoder(modules=modules, device="cpu", prompts={"query": "q: "}, max_active_dims=3).save(folder / "model")


def splade(folder: Path) -> None:
    """Queries that are looked up and documents that run through a masked language model."""
    save_checkpoint(folder / "checkpoint", "BertForMaskedLM")
    documents = [Transformer(str(folder / "checkpoint"), transformer_task="fill-mask"), SpladePooling()]
    routes = Router.for_query_document([SparseStaticEmbedding(fast_tokenizer())], documents)
    SparseEncoder(modules=[routes], device="cpu").save(folder / "model")


def classifier(folder: Path) -> None:
    """A cross encoder as it is saved now."""
    save_checkpoint(folder / "checkpoint", "BertForSequenceClassification", num_labels=1)
    CrossEncoder(str(folder / "checkpoint"), device="cpu", prompts={"query": "q: "}).save(folder / "model")


def checkpoint_alone(folder: Path) -> None:
    """A cross encoder of before 4.0."""
    labels = {0: "no", 1: "maybe", 2: "yes"}
    save_checkpoint(folder / "model", "BertForSequenceClassification", id2label=labels)
    path = folder / "model" / "config.json"
    settings = json.loads(path.read_text())
    settings["sbert_ce_default_activation_function"] = "torch.nn.modules.linear.Identity"
    path.write_text(json.dumps(settings))


def answering(folder: Path) -> None:
    """A language model that says yes or no to what a chat template makes of a pair."""
    import transformers

    tokenizer = fast_tokenizer()
    config = transformers.Qwen3Config(
        vocab_size=wordpiece().get_vocab_size(), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, intermediate_size=8, max_position_embeddings=32,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}answer"
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder / "checkpoint")
    tokenizer.save_pretrained(folder / "checkpoint")
    modules = [Transformer(str(folder / "checkpoint"), transformer_task="text-generation"), LogitScore(9, 5)]
    CrossEncoder(modules=modules, device="cpu").save(folder / "model")


SPARSE = (weights, units, splade)
CROSS = (classifier, checkpoint_alone, answering)
BASES: dict[str, Callable[[Path], None]] = {f.__name__: f for f in (static, router, words, bag, bert, *SPARSE, *CROSS)}
CASES = {
    "static": 700, "router": 400, "words": 350, "bag": 200, "bert": 350, "weights": 250, "units": 350, "splade": 250,
    "classifier": 250, "checkpoint_alone": 150, "answering": 200,
}  # fmt: skip
CASES = {name: runs(count) for name, count in CASES.items()}
FAMILIES = {f.__name__: SparseEncoder for f in SPARSE} | {f.__name__: CrossEncoder for f in CROSS}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    @functools.cache
    def make(name: str) -> Path:
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp(name)
        BASES[name](folder)
        (folder / "model" / f"{CANARY}.py").write_text(
            f"import os\nos.mkdir({str(folder / 'ran')!r})\nclass Boom: pass\n"
        )
        return folder / "model"

    return make


# -- what is done to them ----------------------------------------------------------------------------------------------

VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 3, 10**18, 1.5, float("nan"), "", "x", "mean", "../../outside", "/etc/hostname",
    "C:\\x", "~/x", "a\0b", "\ud800", [], [1], ["x"], [[["x"]]], {}, {"x": 1}, {"text": {"method": "forward"}},
    "torch.nn.modules.activation.ReLU", "torch.hub.load", "torch.nn.Linear", "os.system", f"{CANARY}.Boom",
    "owner/repo--file.Class", "sentence_transformers.models.Pooling", "sentence_transformers.models.Router",
    "sentence_transformers.models.Transformer", "sentence_transformers.models.Normalize",
    "sentence_transformers.models.Poling", "sentence_transformers.sparse_encoder.models.SpladePooling",
    "sentence_transformers.models.StaticEmbedding", "sentence_transformers.models.WordEmbeddings",
    "sentence_transformers.sparse_encoder.models.SparseAutoEncoder", "SparseEncoder", "max", "log1p_relu", "idf.json",
    "sentence_transformers.sparse_encoder.models.SparseStaticEmbedding", "tokenizer.json", 1e39, "9" * 400,
    "sentence_transformers.sparse_encoder.models.MLMTransformer",
    "SentenceTransformer", "CrossEncoder", "bert", "t5", "gpt2", "BertModel", "LlamaTokenizer", "float16", "auto",
    {"AutoConfig": f"{CANARY}.Boom", "AutoModel": f"{CANARY}.Boom", "AutoTokenizer": [f"{CANARY}.Boom", None]},
]  # fmt: skip
KEYS = ["auto_map", "trust_remote_code", "subfolder", "__class__", "self", "model_kwargs", "processor_kwargs",
        "modality_config", "kwargs", "path", "type", "model_type", "requirements", "x", "", "word_embedding_dimension",
        "max_seq_length", "do_lower_case", "activation_function", "use_residual", "quantization_config",
        "tokenizer_class", "chat_template", "_name_or_path", "pooling_strategy", "embedding_dimension", "k",
        "hidden_dim", "max_active_dims", "frozen", "default_route", "transformer_task"]  # fmt: skip


class Payload:
    """Runs code where it is unpickled without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def files_of(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and (not suffixes or p.suffix in suffixes))


def picked(choices: list[Any], number: int) -> Any:
    return choices[number % len(choices)]


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) of a JSON tree; long lists are cut to their ends."""
    found: list[tuple[Any, Any]] = []
    keys: list[Any] = []
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = list(range(len(tree)))
    for key in keys if len(keys) <= 12 else [*keys[:6], *keys[-6:]]:
        found.append((tree, key))
        found += places(tree[key])
    return found


def change_json(folder: Path, a: int, b: int, c: int, d: int) -> None:
    path = picked(files_of(folder, ".json"), a)
    try:
        tree = json.loads(path.read_bytes())
    except ValueError:
        return
    spots = places(tree)
    how = d % 6
    if not spots or how == 5:
        tree = picked(VALUES, c) if d % 2 else {"added": tree}
    else:
        container, key = picked(spots, b)
        if how == 0 and isinstance(container, dict):
            container[picked(KEYS, c)] = picked(VALUES, b)
        elif how == 1:
            del container[key]
        elif how == 2:
            other, there = picked(spots, c)
            try:
                container[key], other[there] = other[there], container[key]
                json.dumps(tree)
            except (ValueError, RecursionError):
                return  # a tree that holds itself is no JSON
        elif how == 3 and isinstance(container, list):
            container.append(container[key])
        elif how == 3:
            container[picked(KEYS, c)] = container.pop(key)
        else:
            container[key] = picked(VALUES, c)
    path.write_text(json.dumps(tree))


def change_bytes(folder: Path, a: int, b: int, c: int, d: int) -> None:
    paths = files_of(folder)
    path = picked(paths, a)
    data = bytearray(path.read_bytes())
    place = b % (len(data) + 1)
    how = d % 7
    if how == 0:
        data = data[:place]
    elif how == 1:
        data[place : place + 1 + c % 4] = bytes([c % 256])
    elif how == 2:
        data = bytearray(picked([b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"{}", b"[]", b"\0" * 64], c))
    elif how == 3:
        data = bytearray(picked(paths, c).read_bytes())
    elif how == 4:
        data = data + data[place:]
    else:
        for i in range(1 + d % 5):
            if data:
                data[(place + i * c) % len(data)] ^= 1 << (c % 8)
    path.write_bytes(bytes(data))


def change_files(folder: Path, a: int, b: int, c: int, d: int) -> None:
    paths = files_of(folder)
    path = picked(paths, a)
    how = d % 5
    if how == 0:
        path.unlink()
    elif how == 1:
        path.unlink()
        path.mkdir()
    elif how == 2:
        path.rename(picked(paths, c).with_name(picked([p.name for p in paths], b)))
    elif how == 3:
        inside = [p for p in folder.rglob("*") if p.is_dir()]
        if inside:
            shutil.rmtree(picked(inside, b))
    elif (other := picked(paths, b)) != path:
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)


def change_weights(folder: Path, a: int, b: int, c: int, d: int) -> None:
    """Rewrite a header of safetensors, or put a pickle that runs code in the place of weights."""
    paths = files_of(folder, ".safetensors", ".bin")
    if not paths:
        return
    path = picked(paths, a)
    if d % 3 == 0 or path.suffix == ".bin":
        target = path.with_name("pytorch_model.bin")
        path.unlink()
        mark = folder.parent / "ran"
        odd = picked(
            [{"linear.weight": Payload(mark)}, Payload(mark), [torch.ones(2)], 3, {"x": 3}, {1: torch.ones(1)}], c
        )
        if b % 2:
            target.write_bytes(pickle.dumps(odd))
        else:
            torch.save(odd, target)
        return
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
    except ValueError:
        return
    spots = places(header)
    if not spots:
        return
    container, key = picked(spots, b)
    values = ["F32", "F16", "BF16", "I64", "F8_E4M3", "X", [0, 4], [4, 0], [-1, 10**18], [2, 2], [0], 10**15, None, {}]
    if d % 3 == 1:
        container[key] = picked(values, c)
    elif isinstance(container, dict):
        container[picked(["x", "linear.weight", "embeddings", "mapping", "__metadata__", "dtype"], c)] = container.pop(
            key
        )
    again = json.dumps(header).encode()
    length = len(again) if c % 5 else picked([0, 2**63 - 1, len(again) + 9, 10**9], b)
    path.write_bytes(length.to_bytes(8, "little") + again + data[8 + size :])


MUTATIONS = [change_json, change_json, change_json, change_bytes, change_files, change_weights]
NUMBERS = st.integers(0, 2**16)
STEPS = st.lists(
    st.tuples(st.integers(0, len(MUTATIONS) - 1), NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=2
)


def mutate(folder: Path, steps: list[tuple[int, int, int, int, int]]) -> None:
    for which, *numbers in steps:
        if files_of(folder):
            MUTATIONS[which](folder, *numbers)


# -- what is watched meanwhile -----------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Files that are opened and things that are done while a folder is loaded, as Python's audit events tell them."""

    folder: Path | None = None
    broken: list[str] = field(default_factory=list)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open" and isinstance(args[0], (str, bytes)) and not self._allowed(os.fsdecode(args[0])):
            self.broken.append(f"opened {args[0]!r}")
        elif event in ("os.system", "subprocess.Popen", "socket.connect", "socket.getaddrinfo", "os.exec", "os.mkdir"):
            self.broken.append(f"{event} {args!r:.200}")
        elif event == "import" and CANARY in str(args[0]):
            self.broken.append(f"imported {args[0]}")

    def _allowed(self, path: str) -> bool:
        path = os.path.abspath(path)  # noqa: PTH100 - resolving would read links, which is what is watched
        return path.startswith((str(self.folder), *ALLOWED))

    def __call__(self, folder: Path) -> Watch:
        self.folder, self.broken = folder, []
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self.folder = None


ROOT = Path(__file__).resolve().parent.parent.parent
# What Python itself reads: its library, the packages, this repository's code, and what the system tells of itself.
ALLOWED = tuple(
    {sys.prefix, sys.base_prefix, str(ROOT / "src"), str(ROOT / "tests"), "/proc/", "/sys/", "/dev/"}
    | {str(Path(entry)) for entry in sys.path if "site-packages" in entry or "lib/python" in entry}
)
watch = Watch()


@pytest.fixture(scope="module", autouse=True)
def _hooked():
    sys.addaudithook(watch.hook)  # hooks stay for the life of the process; this one sleeps between the cases
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def use(model: Any) -> Any:
    """Return what a model makes of two inputs."""
    if isinstance(model, CrossEncoder):
        return model.predict([(text, "a dog") for text in TEXTS])
    model.encode_query(TEXTS)
    return model.encode(TEXTS)


def check(folder: Path, family: Any = SentenceTransformer) -> str:
    """Load a folder and encode with it; return how it went."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with watch(folder):
                model = family(str(folder), device="cpu", local_files_only=True)
        except FourfoldError as error:
            said = str(error)
            assert len(said) < 20_000
            assert str(folder) in said or any(path.name in said for path in files_of(folder.parent)), said
            return "refused"
        except OSError as error:
            said = str(error)
            assert str(folder) in said, said
            return "refused"
        finally:
            watch.folder = None
        try:
            with watch(folder):
                vectors = use(model)
        except FourfoldError:
            return "refused later"
        finally:
            watch.folder = None
        assert len(vectors) == len(TEXTS)
        return "encoded"


COUNTER = itertools.count()


@pytest.mark.parametrize("name", CASES)
def test_a_broken_folder_is_told_and_nothing_else_happens(name, base, tmp_path_factory):
    sound = base(name)
    scratch = tmp_path_factory.mktemp("fuzz")
    family, outcomes = FAMILIES.get(name, SentenceTransformer), dict[str, int]()

    @settings(
        max_examples=CASES[name], deadline=None, derandomize=True, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(STEPS)
    def broken(steps):
        case = scratch / str(next(COUNTER))
        folder = case / "model"
        shutil.copytree(sound, folder)
        mutate(folder, steps)
        outcome = check(folder, family)
        assert not watch.broken, watch.broken
        assert not (case / "ran").exists()
        assert not (sound.parent / "ran").exists()
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        shutil.rmtree(case)

    assert check(sound, family) == "encoded"
    assert not watch.broken
    broken()
    # Both ends are there: changes that are refused, and changes that a folder survives.
    assert outcomes["refused"] > CASES[name] // 4
    assert outcomes["encoded"] > CASES[name] // 20
