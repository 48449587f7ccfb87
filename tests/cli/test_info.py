"""What a folder is, read without running it."""

import json
import shutil

import pytest

from fourfold import CrossEncoder
from fourfold.cli.main import main
from fourfold.testing import checkpoint, tiny_folder


def facts(capsys, folder):
    assert main(["info", str(folder), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def bert(tmp_path):
    return shutil.copytree(tiny_folder("dense", "bert"), tmp_path / "bert")


def test_a_transformer(bert, capsys):
    found = facts(capsys, bert)
    assert found["family"] == "dense"
    assert [module["name"] for module in found["modules"]][:2] == ["Transformer", "Pooling"]
    assert (found["dimension"], found["max_length"], found["similarity"]) == (32, 128, "cosine")
    assert found["weights"]["parameters"] > 10_000
    assert found["weights"]["dtypes"] == ["F32"]
    assert found["backends"] == ["torch"]


def test_a_static_model_runs_without_torch(capsys):
    found = facts(capsys, tiny_folder("dense", "static"))
    assert found["backends"] == ["static", "torch"]
    assert (found["dimension"], found["max_length"]) == (32, None)


def test_a_plain_checkpoint(tmp_path, capsys):
    config = {"architectures": ["BertModel"], "hidden_size": 48, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = facts(capsys, tmp_path)
    assert found["family"].startswith("dense (a plain checkpoint")
    assert (found["dimension"], found["max_length"]) == (48, 64)
    assert found["modules"] == [{"name": "Transformer", "type": "BertModel", "settings": {}}]
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]}))
    assert facts(capsys, tmp_path)["family"] == "cross"


def test_settings_of_older_generations(bert, capsys):
    modules = json.loads((bert / "modules.json").read_text())
    pooling = bert / modules[1]["path"] / "config.json"
    old = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    pooling.write_text(json.dumps(old))
    found = facts(capsys, bert)
    assert found["modules"][1]["settings"] == {"pooling_mode": "cls+mean"}
    assert found["dimension"] == 64


def test_the_page(bert, capsys):
    settings = json.loads((bert / "config_sentence_transformers.json").read_text())
    settings.update(prompts={"query": "find: ", "document": ""}, default_prompt_name="query")
    (bert / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert main(["info", str(bert)]) == 0
    shown = capsys.readouterr().out
    for part in (
        "  family      dense\n",
        "Pooling(pooling_mode=mean)",
        "128 tokens",
        "query: 'find: '  (default)",
        "F32",
    ):
        assert part in shown
    assert "document" not in shown


def test_a_module_that_is_not_known(bert, capsys):
    modules = json.loads((bert / "modules.json").read_text())
    modules[1]["type"] = "somebody.elses.Pooling"
    (bert / "modules.json").write_text(json.dumps(modules))
    assert main(["info", str(bert)]) == 0
    shown = capsys.readouterr().out
    assert "somebody.elses.Pooling" in shown
    assert "nothing here: it holds modules that fourfold does not know" in shown


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("modules.json", b"{", "bert/modules.json is not valid JSON"),
        ("modules.json", b'[{"name": "0", "path": "../..", "type": "x"}]', "must be a relative path inside"),
        ("model.safetensors", b"\xff" * 16, "bert/model.safetensors is not a safetensors file: it is truncated"),
        ("model.safetensors", b"\x02" + b"\0" * 7 + b"[]", "bert/model.safetensors is not a safetensors file"),
    ],
)
def test_a_broken_folder_says_which_file(bert, file, data, message, capsys):
    (bert / file).write_bytes(data)
    assert main(["info", str(bert)]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_model(tmp_path, capsys):
    assert main(["info", str(tmp_path)]) == 2
    assert "holds neither modules.json nor config.json" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "absent")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_sparse_model(capsys):
    found = facts(capsys, tiny_folder("sparse", "bert"))
    assert (found["family"], found["similarity"]) == ("sparse", "dot")
    assert found["modules"][1]["settings"] == {"pooling_strategy": "max", "activation_function": "relu"}
    vocabulary = json.loads((tiny_folder("sparse", "bert") / "config.json").read_text())["vocab_size"]
    assert (found["dimension"], found["max_length"], found["max_active_dims"]) == (vocabulary, 128, None)


def test_a_sparse_auto_encoder_has_units_and_a_bound(capsys):
    folder = tiny_folder("sparse", "qwen3")
    found = facts(capsys, folder)
    assert found["modules"][2]["settings"] == {"hidden_dim": 128, "k": 8}
    assert (found["dimension"], found["max_active_dims"]) == (128, 8)
    assert main(["info", str(folder)]) == 0
    assert "  active      at most 8 a text\n" in capsys.readouterr().out


@pytest.fixture
def routed(tmp_path):
    from fourfold import SparseEncoder
    from fourfold.modules import Router
    from fourfold.testing import tiny

    routes = Router.for_query_document(list(tiny("sparse", "static")), list(tiny("sparse", "bert")))
    SparseEncoder(modules=[routes], device="cpu").save(tmp_path / "routed")
    return tmp_path / "routed"


def test_the_routes_of_a_router(routed, capsys):
    found = facts(capsys, routed)
    (router,) = found["modules"]
    assert router["default_route"] == "document"
    names = {route: [module["name"] for module in inner] for route, inner in router["routes"].items()}
    assert names == {"query": ["SparseStaticEmbedding"], "document": ["Transformer", "SpladePooling"]}
    alone = [facts(capsys, tiny_folder("sparse", kind)) for kind in ("static", "bert")]
    assert found["dimension"] == alone[0]["dimension"] == alone[1]["dimension"]
    parameters = [each["weights"]["parameters"] for each in [found, *alone]]
    assert parameters[0] == parameters[1] + parameters[2]
    assert main(["info", str(routed)]) == 0
    shown = capsys.readouterr().out
    assert "  modules     Router\n                query: SparseStaticEmbedding\n" in shown
    assert "activation_function=relu)  (default)\n" in shown


def test_a_broken_router(routed, capsys):
    (routed / "router_config.json").write_text('{"types": {}, "structure": {"query": ["a"]}, "parameters": {}}')
    assert main(["info", str(routed)]) == 2
    assert "route 'query' names 'a', which 'types' lacks" in capsys.readouterr().err


@pytest.mark.parametrize(("architecture", "labels"), [("bert", 1), ("bert", 2), ("bert", 3), ("qwen3", 1)])
def test_a_cross_encoder_has_labels_and_neither_width_nor_similarity(tmp_path, capsys, architecture, labels):
    if architecture == "qwen3":
        folder = tiny_folder("cross", architecture)
    else:
        plain = checkpoint(architecture, tmp_path / "plain", head="labels", num_labels=labels)
        folder = tmp_path / "saved"
        CrossEncoder(str(plain), device="cpu").save(str(folder))
        assert facts(capsys, plain)["labels"] == labels
    found = facts(capsys, folder)
    assert (found["family"], found["labels"]) == ("cross", labels)
    assert (found["dimension"], found["similarity"]) == (None, None)
    assert main(["info", str(folder)]) == 0
    assert f"labels      {labels}" in capsys.readouterr().out
