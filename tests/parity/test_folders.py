"""Folders travel both ways, and the layouts of every age load."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.support import TEXTS, wordpiece
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny_folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("plain") / "bert"))


def models(folder):
    torch.manual_seed(0)
    static = torch.randn(wordpiece().get_vocab_size(), 8)
    return {
        "dense": [Transformer(folder), Pooling(WIDTH), Dense(WIDTH, 12)],
        "residual": [
            Transformer(folder),
            Pooling(WIDTH),
            Dense(WIDTH, 12, use_residual=True, activation_function=torch.nn.GELU()),
        ],
        "same width": [
            Transformer(folder),
            Pooling(WIDTH),
            Dense(WIDTH, WIDTH, bias=False, use_residual=True),
            Normalize(),
        ],
        "tokens": [
            Transformer(folder),
            Dense(WIDTH, 6, module_input_name="token_embeddings", activation_function=torch.nn.Identity()),
            Pooling(6, ("max", "mean")),
        ],
        "static": [StaticEmbedding(wordpiece(), static)],
        "static, dense": [StaticEmbedding(wordpiece(), static), Dense(8, 3), Normalize()],
    }


@pytest.mark.parametrize("name", ["dense", "residual", "same width", "tokens", "static", "static, dense"])
@pytest.mark.parametrize("safe", [True, False])
def test_both_ways(st, plain, tmp_path, name, safe):
    ours = SentenceTransformer(modules=models(plain)[name], device="cpu")
    wanted = ours.encode(TEXTS)
    ours.save(str(tmp_path / "ours"), safe_serialization=safe)
    theirs = st.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS), wanted, atol=PACKED)
    theirs.save(str(tmp_path / "theirs"), safe_serialization=safe)
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "theirs"), device="cpu").encode(TEXTS), wanted, atol=PACKED
    )
    for file in ("modules.json", "config_sentence_transformers.json"):
        assert json.loads((tmp_path / "ours" / file).read_text()) == json.loads(
            (tmp_path / "theirs" / file).read_text()
        )


def test_every_file_of_a_folder_is_what_the_older_library_writes(st, tmp_path):
    folder = str(tiny_folder())
    SentenceTransformer(folder, device="cpu", prompts={"query": "q: "}, truncate_dim=8).save(str(tmp_path / "ours"))
    st.SentenceTransformer(folder, device="cpu", prompts={"query": "q: "}, truncate_dim=8).save(
        str(tmp_path / "theirs")
    )
    names = {p.relative_to(tmp_path / "theirs").as_posix() for p in (tmp_path / "theirs").rglob("*") if p.is_file()}
    assert {p.relative_to(tmp_path / "ours").as_posix() for p in (tmp_path / "ours").rglob("*") if p.is_file()} == names
    for name in sorted(names - {"README.md", "tokenizer.json"}):
        ours, theirs = ((tmp_path / who / name).read_bytes() for who in ("ours", "theirs"))
        if name.endswith(".json"):
            assert json.loads(ours) == json.loads(theirs), name
        else:
            assert ours == theirs, name


def rewrite(folder, name, value):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(value))


def first_generation(plain, folder):
    """1.x to 2.0: the transformer in a folder of its own, pooling by booleans, no model config."""
    shutil.copytree(plain, folder / "0_Transformer")
    rewrite(folder, "0_Transformer/sentence_bert_config.json", {"max_seq_length": 20})
    kinds = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"]
    paths = ["0_Transformer", "1_Pooling"]
    rewrite(folder, "modules.json", [{"idx": i, "name": str(i), "path": paths[i], "type": kinds[i]} for i in range(2)])
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
    rewrite(
        folder,
        "1_Pooling/config.json",
        {"word_embedding_dimension": WIDTH, **flags, "pooling_mode_mean_sqrt_len_tokens": False},
    )


def second_generation(plain, folder):
    """2.x to 5.3: the transformer in the root, lower-casing set, Dense as a pickle, Normalize without files."""
    shutil.copytree(plain, folder, dirs_exist_ok=True)
    rewrite(folder, "sentence_bert_config.json", {"max_seq_length": None, "do_lower_case": True})
    kinds = [f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Dense", "Normalize")]
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    rewrite(folder, "modules.json", [{"idx": i, "name": str(i), "path": paths[i], "type": kinds[i]} for i in range(4)])
    rewrite(
        folder,
        "1_Pooling/config.json",
        {"word_embedding_dimension": WIDTH, "pooling_mode_lasttoken": True, "include_prompt": True},
    )
    activation = "torch.nn.modules.activation.Tanh"
    rewrite(
        folder,
        "2_Dense/config.json",
        {"in_features": WIDTH, "out_features": 5, "bias": True, "activation_function": activation},
    )
    torch.manual_seed(1)
    torch.save(
        {"linear.weight": torch.randn(5, WIDTH), "linear.bias": torch.randn(5)},
        folder / "2_Dense" / "pytorch_model.bin",
    )
    version = {"sentence_transformers": "2.7.0", "transformers": "4.40.0", "pytorch": "2.2.0"}
    prompts = {"query": "query: ", "other": "x "}
    config = {"__version__": version, "prompts": prompts, "default_prompt_name": "other", "similarity_fn_name": "dot"}
    rewrite(folder, "config_sentence_transformers.json", config)


@pytest.mark.parametrize("layout", [first_generation, second_generation])
def test_older_layouts_load_alike_and_are_saved_in_the_newest(st, plain, tmp_path, layout):
    folder = tmp_path / "old"
    folder.mkdir()
    layout(plain, folder)
    theirs, ours = st.SentenceTransformer(str(folder), device="cpu"), SentenceTransformer(str(folder), device="cpu")
    texts = [*TEXTS, "UPPER Case " * 20]
    np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts), atol=10 * PACKED)
    np.testing.assert_allclose(ours.encode_query(texts), theirs.encode_query(texts), atol=10 * PACKED)
    assert (ours.prompts, ours.default_prompt_name) == (theirs.prompts, theirs.default_prompt_name)
    assert (ours.similarity_fn_name, ours.max_seq_length) == (theirs.similarity_fn_name, theirs.max_seq_length)
    ours.save(str(tmp_path / "ours"))
    theirs.save(str(tmp_path / "theirs"))
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json", "tokenizer_config.json"):
        got, wanted = (json.loads((tmp_path / who / name).read_text()) for who in ("ours", "theirs"))
        assert got == wanted, name
    np.testing.assert_allclose(
        st.SentenceTransformer(str(tmp_path / "ours"), device="cpu").encode(texts), ours.encode(texts), atol=10 * PACKED
    )


def test_model2vec_weights_load_alike(st, tmp_path):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    size = wordpiece().get_vocab_size()
    save_file(
        {
            "embeddings": rng.integers(-128, 128, (size // 2, 8), dtype=np.int8),
            "mapping": rng.integers(0, size // 2, size),
            "weights": rng.random(size),
        },
        tmp_path / "model.safetensors",
    )
    wordpiece().save(str(tmp_path / "tokenizer.json"))
    kind = "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"
    rewrite(tmp_path, "modules.json", [{"idx": 0, "name": "0", "path": "", "type": kind}])
    import fourfold

    wanted = st.SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    scale = abs(wanted).max()
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS) / scale, wanted / scale, atol=PACKED
    )
    np.testing.assert_allclose(
        fourfold.load(str(tmp_path), backend="static").encode(TEXTS) / scale, wanted / scale, atol=PACKED
    )


def test_the_built_in_model_loads_there_too(st):
    import fourfold
    from fourfold.families.load import BUILTIN

    np.testing.assert_allclose(
        fourfold.load().encode(TEXTS), st.SentenceTransformer(str(BUILTIN), device="cpu").encode(TEXTS), atol=PACKED
    )
