"""The folders of well-known published models, rebuilt with tiny random weights: names, files and keys as published.

A row says what lies in a folder; :func:`write` makes it. Widths are those of the tiny checkpoints, and lengths are cut
to what these have positions for; everything else is as the models' repositories have it.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tests.support import wordpiece

from fourfold.testing import WIDTH, checkpoint

ST = "sentence_transformers"


@dataclass(frozen=True)
class Part:
    """One entry of ``modules.json`` and the files of its folder.

    Attributes:
        kind: Type string; one that begins with a dot begins with ``sentence_transformers``.
        path: Its folder.
        settings: Its ``config.json``; None writes no file, and no folder if there are no weights either.
        weights: Shapes of its tensors.
        pickled: Whether they lie in ``pytorch_model.bin`` rather than ``model.safetensors``.
        entry: Further keys of the entry.
        counts: Shapes of its tensors of whole numbers, which are zeros.
    """

    kind: str
    path: str
    settings: dict[str, Any] | None = None
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    pickled: bool = False
    entry: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """One model's folder.

    Attributes:
        parts: Its modules, in order.
        checkpoint: Writes the transformers checkpoint into a folder, or the name of one of ``fourfold.testing``.
        inside: Folder of the checkpoint.
        transformer: What ``settings_file`` holds; None leaves it out.
        settings_file: Name of the transformer's settings.
        config: What ``config_sentence_transformers.json`` holds; None leaves it out.
        tokenizer: Changed keys of ``tokenizer_config.json``.
        backbone: Changed keys of the checkpoint's ``config.json``.
        dtype: Data type of the checkpoint's weights.
        files: Further files: objects are written as JSON.
        within: Parts of parts, such as those of a Router: they have a folder each, and no entry in ``modules.json``.
        tokenizers: Folders that hold a copy of the checkpoint's tokenizer.
        listed: Whether there is a ``modules.json``.
        trust: Whether the folder holds code that it needs.
        encodes: How to encode texts besides the three methods, by a name.
    """

    parts: tuple[Part, ...]
    checkpoint: str | Callable[[Path], None] | None = "bert"
    inside: str = ""
    transformer: dict[str, Any] | None = None
    settings_file: str = "sentence_bert_config.json"
    config: dict[str, Any] | None = None
    tokenizer: dict[str, Any] = field(default_factory=dict)
    backbone: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    files: dict[str, Any] = field(default_factory=dict)
    within: tuple[Part, ...] = ()
    tokenizers: tuple[str, ...] = ()
    listed: bool = True
    trust: bool = False
    encodes: dict[str, Callable[[Any], Any]] = field(default_factory=dict)


def write(row: Published, folder: Path) -> None:
    """Write a published model's folder."""
    folder.mkdir(parents=True)
    if callable(row.checkpoint):
        row.checkpoint(folder / row.inside)
    elif row.checkpoint is not None:
        checkpoint(row.checkpoint, folder / row.inside)
    if row.checkpoint is not None and row.dtype is not torch.float32:
        weights = {
            key: value.to(row.dtype) for key, value in load_file(folder / row.inside / "model.safetensors").items()
        }
        save_file(weights, folder / row.inside / "model.safetensors", metadata={"format": "pt"})
    for name, changes in (("config.json", row.backbone), ("tokenizer_config.json", row.tokenizer)):
        if changes:
            path = folder / row.inside / name
            write_json(path, {**json.loads(path.read_text()), **changes})
    if row.transformer is not None:
        write_json(folder / row.inside / row.settings_file, row.transformer)
    if row.config is not None:
        write_json(folder / "config_sentence_transformers.json", row.config)
    write_parts(row, folder)
    for inside in row.tokenizers:
        (folder / inside).mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folder / row.inside / name, folder / inside / name)
    for name, content in row.files.items():
        if isinstance(content, str):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
        else:
            write_json(folder / name, content)


def write_parts(row: Published, folder: Path) -> None:
    entries = []
    for i, part in enumerate(row.parts):
        kind = f"{ST}{part.kind}" if part.kind.startswith(".") else part.kind
        entries.append({"idx": i, "name": str(i), "path": part.path, "type": kind, **part.entry})
        write_part(folder / part.path, part, seed=i)
    if row.listed:
        write_json(folder / "modules.json", entries)
    for i, part in enumerate(row.within):
        write_part(folder / part.path, part, seed=20 + i)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def write_part(folder: Path, part: Part, seed: int) -> None:
    if part.settings is not None:
        write_json(folder / "config.json", part.settings)
    if part.weights:
        generator = torch.Generator().manual_seed(seed)
        tensors = {name: torch.randn(shape, generator=generator) / 3 for name, shape in part.weights.items()}
        tensors |= {name: torch.zeros(shape, dtype=torch.long) for name, shape in part.counts.items()}
        folder.mkdir(parents=True, exist_ok=True)
        if part.pickled:
            torch.save(tensors, folder / "pytorch_model.bin")
        else:
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# -- the parts that models are made of ---------------------------------------------------------------------------------

FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
NEWER_FLAGS = (*FLAGS, "weightedmean_tokens", "lasttoken")


def transformer(path: str = "", kind: str = ".models.Transformer", **entry: Any) -> Part:
    return Part(kind, path, entry=entry)


def pooling(
    mode: str = "mean_tokens", flags: tuple[str, ...] = FLAGS, path: str = "1_Pooling", **settings: Any
) -> Part:
    chosen = {f"pooling_mode_{flag}": flag == mode for flag in flags}
    return Part(".models.Pooling", path, {"word_embedding_dimension": WIDTH, **chosen, **settings})


def normalize(place: int = 2, kind: str = ".models.Normalize") -> Part:
    return Part(kind, f"{place}_Normalize")


TANH, IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"


def dense(
    path: str, wide: int, out: int, *, bias: bool = True, activation: str = TANH, pickled: bool = False, **settings: Any
) -> Part:
    config = {
        "in_features": wide,
        "out_features": out,
        "bias": bias,
        "activation_function": activation,
        **settings,
    }
    weights = {"linear.weight": (out, wide), **({"linear.bias": (out,)} if bias else {})}
    return Part(".models.Dense", path, config, weights, pickled)


def versions(st: str, transformers: str, pytorch: str) -> dict[str, Any]:
    return {"__version__": {"sentence_transformers": st, "transformers": transformers, "pytorch": pytorch}}


TWO_ZERO = versions("2.0.0", "4.6.1", "1.8.1")


def prompts(st: str = "3.0.0", **named: Any) -> dict[str, Any]:
    texts = {key.replace("__", "-"): value for key, value in named.items()}
    return {
        **versions(st, "4.41.2", "2.3.1"),
        "prompts": texts,
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }


def length(tokens: int, lower: bool = False) -> dict[str, Any]:
    return {"max_seq_length": tokens, "do_lower_case": lower}


# -- checkpoints that are not among the tiny ones ----------------------------------------------------------------------


def nomic(folder: Path) -> None:
    from transformers import NomicBertConfig, NomicBertModel

    checkpoint("bert", folder)
    size = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = NomicBertConfig(vocab_size=wordpiece_size(folder), **size, max_position_embeddings=128)
    seeded(NomicBertModel, config).save_pretrained(folder)


def clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

    checkpoint("bert", folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    side = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    ids = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id,
           "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    text = {**side, "vocab_size": len(tokenizer), "max_position_embeddings": 77, **ids}
    vision = {**side, "image_size": 16, "patch_size": 8}
    for file in folder.iterdir():
        file.unlink()
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    seeded(CLIPModel, config).save_pretrained(folder)
    tokenizer.model_max_length = 77
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)


def seeded(model: Any, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = model(config).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4)
        return made


def wordpiece_size(folder: Path) -> int:
    return json.loads((folder / "config.json").read_text())["vocab_size"]


def token_table(key: str, rows: int | None = None) -> dict[str, tuple[int, ...]]:
    return {key: (rows or wordpiece().get_vocab_size(), WIDTH)}


# The code that jina-embeddings-v3 brings: a first module of the first interface whose forward takes the task.
CUSTOM_ST = """
import os
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer


class Transformer(nn.Module):
    save_in_root = True

    def __init__(self, model_name_or_path, max_seq_length=None, model_args=None, tokenizer_args=None, config_args=None,
                 cache_dir=None, do_lower_case=False, tokenizer_name_or_path=None, **kwargs):
        super().__init__()
        self.config = AutoConfig.from_pretrained(model_name_or_path, **(config_args or {}))
        self.auto_model = AutoModel.from_pretrained(model_name_or_path, config=self.config, **(model_args or {}))
        self.tokenizer = AutoTokenizer.from_pretrained(model_name_or_path, **(tokenizer_args or {}))
        self.max_seq_length = max_seq_length
        self.do_lower_case = do_lower_case
        self.tasks = nn.Parameter(torch.ones(2))

    def forward(self, features, task=None):
        scale = {"retrieval.query": 2.0, "retrieval.passage": 3.0}.get(task, 1.0)
        output = self.auto_model(input_ids=features["input_ids"], attention_mask=features["attention_mask"])
        tokens = output.last_hidden_state.clone()
        tokens[..., 0] *= scale
        features["token_embeddings"] = tokens
        return features

    def get_word_embedding_dimension(self):
        return self.config.hidden_size

    def tokenize(self, texts, padding=True):
        return self.tokenizer(list(texts), padding=padding, truncation=True, max_length=self.max_seq_length,
                              return_tensors="pt")

    def save(self, output_path, safe_serialization=True):
        self.auto_model.save_pretrained(output_path, safe_serialization=safe_serialization)
        self.tokenizer.save_pretrained(output_path)
        with open(os.path.join(output_path, "sentence_bert_config.json"), "w") as file:
            file.write('{"max_seq_length": %d, "do_lower_case": false}' % self.max_seq_length)

    @classmethod
    def load(cls, input_path):
        raise AssertionError("a class with these arguments is built with them")
"""

QWEN_PROMPTS = prompts(
    "5.0.0",
    query="Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
    document="",
)
GEMMA_PROMPTS = prompts(
    "5.1.0", query="task: search result | query: ", document="title: none | text: ",
    BitextMining="task: search result | query: ", Clustering="task: clustering | query: ",
    Classification="task: classification | query: ", InstructionRetrieval="task: code retrieval | query: ",
    MultilabelClassification="task: classification | query: ",
    PairClassification="task: sentence similarity | query: ", Reranking="task: search result | query: ",
    Retrieval="task: search result | query: ", Retrieval__query="task: search result | query: ",
    Retrieval__document="title: none | text: ", STS="task: sentence similarity | query: ",
    Summarization="task: summarization | query: ",
)  # fmt: skip
NOMIC_PROMPTS = prompts(
    "2.4.0.dev0", query="search_query: ", document="search_document: ", classification="classification: ",
    clustering="clustering: ",
)  # fmt: skip
REPRESENT = "Represent this sentence for searching relevant passages: "
GLOVE = ["PADDING_TOKEN", "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "text", "words", "a"]

ROWS: dict[str, Published] = {
    "sentence-transformers/all-MiniLM-L6-v2": Published(
        (transformer(), pooling(), normalize()), transformer=length(25), config=TWO_ZERO
    ),
    "sentence-transformers/all-mpnet-base-v2": Published(
        (transformer(), pooling(), normalize()), "mpnet", transformer=length(38), config=TWO_ZERO
    ),
    "sentence-transformers/all-distilroberta-v1": Published(
        (transformer(), pooling(), normalize()), "roberta", transformer=length(51), config=TWO_ZERO
    ),
    "sentence-transformers/multi-qa-MiniLM-L6-cos-v1": Published(
        (transformer(), pooling(), normalize()), transformer=length(51), config=TWO_ZERO
    ),
    "sentence-transformers/multi-qa-mpnet-base-dot-v1": Published(
        (transformer(), pooling("cls_token")), "mpnet", transformer=length(51), config=TWO_ZERO
    ),
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": Published(
        (transformer(), pooling()), transformer=length(12), config=TWO_ZERO
    ),
    "sentence-transformers/paraphrase-multilingual-mpnet-base-v2": Published(
        (transformer(), pooling()), "xlm_roberta", transformer=length(12), config=TWO_ZERO
    ),
    "sentence-transformers/distiluse-base-multilingual-cased-v2": Published(
        (transformer(), pooling(), dense("2_Dense", WIDTH, 20, pickled=True)),
        "distilbert",
        transformer=length(12),
        config=TWO_ZERO,
    ),
    "sentence-transformers/LaBSE": Published(
        (transformer(), pooling("cls_token"), dense("2_Dense", WIDTH, WIDTH, pickled=True), normalize(3)),
        transformer=length(25),
        config=TWO_ZERO,
    ),
    "sentence-transformers/allenai-specter": Published(
        (transformer("0_Transformer"), pooling("cls_token")), inside="0_Transformer", transformer={"max_seq_length": 51}
    ),
    "sentence-transformers/stsb-roberta-base": Published(
        (transformer("0_RoBERTa"), pooling()),
        "roberta",
        inside="0_RoBERTa",
        transformer=length(12, lower=True),
        settings_file="sentence_roberta_config.json",
    ),
    "sentence-transformers/sentence-t5-base": Published(
        (transformer(), pooling(), dense("2_Dense", WIDTH, WIDTH, bias=False, activation=IDENTITY, pickled=True),
         normalize(3)),
        "t5", transformer=length(25), config=versions("2.2.0", "4.7.0", "1.9.0+cu102"),
    ),
    "sentence-transformers/gtr-t5-base": Published(
        (transformer(), pooling(), dense("2_Dense", WIDTH, WIDTH, bias=False, activation=IDENTITY, pickled=True),
         normalize(3)),
        "t5", transformer=length(51), config=versions("2.2.0", "4.7.0", "1.9.0+cu102"), dtype=torch.bfloat16,
    ),
    "sentence-transformers/average_word_embeddings_glove.6B.300d": Published(
        (
            Part(".models.WordEmbeddings", "0_WordEmbeddings", weights={"emb_layer.weight": (len(GLOVE), WIDTH)},
                 pickled=True),
            pooling(),
        ),
        None,
        files={
            "0_WordEmbeddings/wordembedding_config.json": {
                "tokenizer_class": f"{ST}.models.tokenizer.WhitespaceTokenizer.WhitespaceTokenizer",
                "update_embeddings": False,
                "max_seq_length": 1000000,
            },
            "0_WordEmbeddings/whitespacetokenizer_config.json": {
                "vocab": GLOVE, "stop_words": ["over", "a", "-"], "do_lower_case": False,
            },
        },
        config=TWO_ZERO,
    ),
    "sentence-transformers/clip-ViT-B-32": Published(
        (Part(".models.CLIPModel", "0_CLIPModel"),), clip, inside="0_CLIPModel", config=TWO_ZERO
    ),
    "sentence-transformers/static-retrieval-mrl-en-v1": Published(
        (Part(".models.StaticEmbedding", "0_StaticEmbedding", weights=token_table("embedding.weight")),),
        None,
        files={"0_StaticEmbedding/tokenizer.json": wordpiece().to_str()},
        config=prompts("3.4.0.dev0"),
    ),
    "minishlab/potion-base-8M": Published(
        (Part(".models.StaticEmbedding", ".", weights=token_table("embeddings")), normalize(1)),
        None,
        files={
            "tokenizer.json": wordpiece().to_str(),
            "config.json": {
                "model_type": "model2vec", "architectures": ["StaticModel"], "tokenizer_name": "baai/bge-base-en-v1.5",
                "apply_pca": 256, "apply_zipf": True, "hidden_dim": WIDTH, "seq_length": 1000000, "normalize": True,
            },
        },
        config=versions("3.3.1", "4.46.3", "2.5.1"),
    ),
    "intfloat/e5-base-v2": Published((transformer(), pooling(), normalize()), transformer=length(51)),
    "intfloat/multilingual-e5-base": Published(
        (transformer(), pooling(), normalize()),
        "xlm_roberta",
        transformer=length(51),
        config=prompts(query="query: ", passage="passage: "),
    ),
    "BAAI/bge-base-en-v1.5": Published(
        (transformer(), pooling("cls_token"), normalize()), transformer=length(51, lower=True),
        config=versions("2.2.2", "4.28.1", "1.13.0+cu117"),
    ),
    "thenlper/gte-base": Published(
        (transformer(), pooling(), normalize()), transformer=length(51), dtype=torch.float16,
        backbone={"torch_dtype": "float16"},
    ),
    "thenlper/gte-large": Published((transformer(), pooling(), normalize()), transformer=length(51)),
    "nomic-ai/nomic-embed-text-v1.5": Published(
        (transformer(), pooling(flags=NEWER_FLAGS, include_prompt=True)), nomic, transformer=length(81),
        config=NOMIC_PROMPTS,
    ),
    "jinaai/jina-embeddings-v3": Published(
        (
            transformer(kind="custom_st.Transformer", name="transformer", kwargs=["task"]),
            Part(".models.Pooling", "1_Pooling", pooling(flags=NEWER_FLAGS, include_prompt=True).settings,
                 entry={"name": "pooler"}),
            Part(".models.Normalize", "2_Normalize", entry={"name": "normalizer"}),
        ),
        "xlm_roberta", transformer=length(81), files={"custom_st.py": CUSTOM_ST}, trust=True,
        config=prompts(
            "3.1.0", **{"retrieval.query": "Represent the query for retrieving evidence documents: ",
                        "retrieval.passage": "Represent the document for retrieval: ", "text-matching": ""},
        ),
        encodes={
            "the task's own head": lambda m: m.encode(["a text", "long words"], task="retrieval.query"),
            "task and prompt": lambda m: m.encode(["a"], task="retrieval.passage", prompt_name="retrieval.passage"),
        },
    ),
    "Qwen/Qwen3-Embedding-0.6B": Published(
        (transformer(), pooling("lasttoken", NEWER_FLAGS, include_prompt=True), normalize()),
        "qwen3", transformer=length(81), config=QWEN_PROMPTS,
        tokenizer={
            "padding_side": "left",
            "chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
        },
        encodes={
            "an instruction": lambda m: m.encode(["a", "the text"], prompt="Instruct: Find it\nQuery:"),
        },
    ),
    "google/embeddinggemma-300m": Published(
        (
            transformer(), pooling(flags=NEWER_FLAGS, include_prompt=True),
            dense("2_Dense", WIDTH, 4 * WIDTH, bias=False, activation=IDENTITY),
            dense("3_Dense", 4 * WIDTH, WIDTH, bias=False, activation=IDENTITY),
            normalize(4),
        ),
        "gemma3", transformer=length(81), config=GEMMA_PROMPTS, backbone={"use_bidirectional_attention": True},
        encodes={
            "a task's prompt": lambda m: m.encode(["a", "text words"], prompt_name="Clustering"),
            "fewer dimensions": lambda m: m.encode(["a"], truncate_dim=8, normalize_embeddings=True),
        },
    ),
    "Snowflake/snowflake-arctic-embed-m": Published(
        (transformer(), pooling("cls_token", NEWER_FLAGS, include_prompt=True), normalize()), transformer=length(51),
        config=prompts("2.7.0.dev0", query=REPRESENT),
    ),
    "mixedbread-ai/mxbai-embed-large-v1": Published(
        (transformer(), pooling("cls_token", NEWER_FLAGS, include_prompt=True)), transformer=length(51),
        config=prompts("2.4.0", query=REPRESENT, passage=""),
        encodes={"binary": lambda m: m.encode(["a", "the text"], precision="ubinary")},
    ),
    "NovaSearch/stella_en_400M_v5": Published(
        (
            transformer(), pooling(flags=NEWER_FLAGS, include_prompt=True),
            dense("2_Dense_1024", WIDTH, 24, activation=IDENTITY),
        ),
        transformer=length(51),
        config=prompts(
            s2p_query="Instruct: Given a web search query, retrieve relevant passages that answer the query.\nQuery: ",
            s2s_query="Instruct: Retrieve semantically similar text.\nQuery: ",
        ),
        # Folders of other widths lie beside the one that is named.
        files={"2_Dense_256/config.json": {"in_features": WIDTH, "out_features": 6, "bias": True,
                                           "activation_function": IDENTITY}},
        encodes={"a query": lambda m: m.encode(["a"], prompt_name="s2p_query")},
    ),
    "hkunlp/instructor-base": Published(
        (
            transformer(), pooling(include_prompt=False),
            dense("2_Dense", WIDTH, WIDTH, bias=False, activation=IDENTITY, pickled=True), normalize(3),
        ),
        "t5", transformer=length(51), config=versions("2.2.2", "4.20.0.dev0", "1.11.0+cu113"),
        encodes={"an instruction": lambda m: m.encode(["a", "the text"], prompt="Represent the title: ")},
    ),
    "an Asym model of 2.x": Published(
        (transformer(), pooling(), Part(".models.Asym", "2_Asym", {
            "types": {"query-139734_Dense": f"{ST}.models.Dense.Dense", "doc-139735_Dense": f"{ST}.models.Dense.Dense"},
            "structure": {"query": ["query-139734_Dense"], "document": ["doc-139735_Dense"]},
            "parameters": {"allow_empty_key": True},
        })),
        transformer=length(51), config=TWO_ZERO,
        files={f"2_Asym/{name}/config.json": dense("", WIDTH, 8).settings
               for name in ("query-139734_Dense", "doc-139735_Dense")},
    ),
    "a BoW model": Published(
        (
            Part(f"{ST}.models.BoW", "0_BoW", {
                "vocab": GLOVE[1:], "word_weights": {"fox": 2.0, "the": 0.25}, "unknown_word_weight": 0.5,
                "cumulative_term_frequency": True,
            }),
            dense("1_Dense", len(GLOVE) - 1, 8, pickled=True),
        ),
        None, config=TWO_ZERO,
    ),
}  # fmt: skip


def files(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and p.name != "README.md"}


def assert_same_files(got, wanted, settings):
    """Assert that two folders hold the same files; ``settings`` makes of a JSON file what is compared."""
    got, wanted = files(got), files(wanted)
    assert got.keys() == wanted.keys()
    for name, path in wanted.items():
        if name.endswith(".safetensors"):
            first, second = load_file(got[name]), load_file(path)
            assert first.keys() == second.keys(), name
            assert all(torch.equal(first[key], second[key]) for key in first), name
        elif name.endswith("tokenizer.json"):
            continue  # written by the tokenizers library, padding and truncation of the last call included
        elif name.endswith(".json"):
            first, second = settings(got[name]), settings(path)
            assert first == second, name
            assert list(first) == list(second), name
        else:
            assert got[name].read_bytes() == path.read_bytes(), name


def loaded_in_silence(load, caplog):
    """Return what ``load`` gives; the older library may log and warn of nothing meanwhile."""
    caplog.clear()
    with warnings.catch_warnings(record=True) as heard, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        back = load()
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("sentence_transformers")]
    assert not [str(one.message) for one in heard if "sentence_transformers" in one.filename]
    return back
