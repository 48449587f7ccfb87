"""Graphs opened and run by both runtimes: their options, and what damaged files and wrong inputs come to."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
import torch
from tests.graphs import convert, dense, handmade, table
from tests.tolerances import BATCH, PACKED

from fourfold.errors import FolderError, InputError, MissingExtraError, ShapeError
from fourfold.modules import _runtime
from fourfold.runtimes import KINDS, _errors, open_graph
from fourfold.runtimes.feeds import fed
from fourfold.runtimes.openvino import read_config
from fourfold.runtimes.processor import lacking

RNG = np.random.default_rng(0)
EXACT = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}


def batch(rows, tokens):
    ids = RNG.integers(5, 100, (rows, tokens))
    mask = (np.arange(tokens)[None, :] < RNG.integers(1, tokens + 1, (rows, 1))).astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return dense(tmp_path_factory.mktemp("bert"))[0].model


@pytest.fixture(scope="module")
def paths(model, tmp_path_factory, traced_once):
    """The same model as a file of each runtime."""
    path = tmp_path_factory.mktemp("model") / "onnx" / "model.onnx"
    _runtime.export_model("onnx", model, "feature-extraction", path)
    return {"onnx": path, "openvino": convert(path)}


@pytest.fixture(scope="module", params=KINDS)
def opened(request, paths):
    return open_graph(request.param, paths[request.param], "the graph", EXACT)


def states(graph, arrays):
    return graph.run(fed(graph, arrays))["last_hidden_state"]


def wanted(model, arrays):
    with torch.inference_mode():
        return model(**{name: torch.tensor(array) for name, array in arrays.items()}).last_hidden_state.numpy()


@pytest.mark.parametrize("shape", [(1, 1), (1, 128), (5, 13)])
def test_a_graph_gives_the_numbers_of_the_model(opened, model, shape):
    arrays = batch(*shape)
    np.testing.assert_allclose(states(opened, arrays), wanted(model, arrays), atol=PACKED)


def test_what_a_graph_takes_and_gives(opened):
    assert opened.inputs == dict.fromkeys(["input_ids", "attention_mask", "token_type_ids"], (None, None))
    assert opened.outputs == ("last_hidden_state",)


def test_a_text_that_is_too_long_says_what_to_lower(opened):
    with pytest.raises(ShapeError, match=r"the graph does not run on input_ids int64\[1, 129\].*lower max_seq_length"):
        states(opened, batch(1, 129))
    assert states(opened, batch(1, 128)).shape == (1, 128, 32)


def test_several_threads_share_a_graph(opened):
    arrays = [batch(3, tokens) for tokens in range(1, 41)]
    alone = [states(opened, array) for array in arrays]
    with ThreadPoolExecutor(4) as pool:
        for got, row in zip(pool.map(lambda array: states(opened, array), arrays), alone, strict=True):
            np.testing.assert_allclose(got, row, atol=BATCH)


_SIGNALLED = """
import gc, signal, sys
import numpy as np
from pathlib import Path
from fourfold.runtimes import open_graph

one = np.ones((1, 1), dtype=np.int64)
arrays = {"input_ids": one, "attention_mask": one, "token_type_ids": 0 * one}
graphs = [open_graph("openvino", Path(sys.argv[1]), "the graph", {}) for _ in range(3)]
while graphs:
    graphs[0].run(arrays)
    del graphs[0]
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_graphs_that_are_gone_leave_signals_to_python(paths):
    """OpenVINO frees the stack on which they are handled with the last of what it belongs to."""
    command = [sys.executable, "-c", _SIGNALLED, paths["openvino"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@pytest.mark.parametrize("text", ["std::bad_alloc", "Failed to allocate memory", "CUDA out of memory"])
def test_a_lack_of_memory_is_one_for_the_engine(text):
    assert isinstance(_errors.of_run(RuntimeError(text), "the graph", batch(1, 2)), MemoryError)
    assert isinstance(_errors.of_run(RuntimeError("other"), "the graph", batch(1, 2)), ShapeError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_runtime_that_is_not_installed(paths, monkeypatch, kind):
    monkeypatch.setattr("fourfold.errors.installed", lambda package: package != KINDS[kind].package)
    with pytest.raises(MissingExtraError, match=rf'pip install "fourfold\[{kind}\]"'):
        open_graph(kind, paths[kind], "the graph", {})


@pytest.mark.parametrize("kind", KINDS)
def test_options_of_the_other_runtime_are_left_out_and_unknown_ones_refused(paths, kind):
    other = {"onnx": EXACT, "openvino": {"provider": "nothing", "session_options": 3}}[kind]
    assert open_graph(kind, paths[kind], "the graph", other).outputs == ("last_hidden_state",)
    with pytest.raises(InputError, match=r"'use_io_bindings'.*Did you mean 'use_io_binding'"):
        open_graph(kind, paths[kind], "the graph", {"use_io_bindings": True})


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_compiled_is_kept_until_the_file_changes(paths, tmp_path, kind):
    arrays, path = batch(3, 9), tmp_path / "model" / paths[kind].name
    shutil.copytree(paths[kind].parent, path.parent)
    plain = states(open_graph(kind, path, "the graph", EXACT), arrays)
    for _ in range(2):
        opened = open_graph(kind, path, "the graph", {**EXACT, "compile_cache": str(tmp_path / "kept")})
        np.testing.assert_allclose(states(opened, arrays), plain, atol=PACKED)
        kept = list((tmp_path / "kept").rglob("*"))
        assert len([file for file in kept if file.is_file()]) == 1
    if kind == "onnx":
        handmade(path, {"input_ids": ["rows", "tokens"]})
        opened = open_graph(kind, path, "the graph", {"compile_cache": str(tmp_path / "kept")})
        np.testing.assert_allclose(states(opened, arrays), table()[arrays["input_ids"]], atol=PACKED)


# -- onnxruntime -------------------------------------------------------------------------------------------------------


def onnx(path, **options):
    return open_graph("onnx", path, "the graph", options)


def test_an_unknown_provider_gets_a_suggestion(paths):
    with pytest.raises(InputError, match=r"CPUExecutionProvider.*Did you mean 'CPUExecutionProvider'"):
        onnx(paths["onnx"], provider="CPUExecutionProvidr")


def test_the_default_provider_is_the_first_that_runs_here(paths, monkeypatch):
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"]
    )
    assert onnx(paths["onnx"])._session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    "options",
    [
        {"use_io_binding": True},
        {"use_io_binding": False, "provider": "CPUExecutionProvider"},
        {"provider": "CPUExecutionProvider", "provider_options": {}},
        {"threads": 1},
    ],
    ids=str,
)
def test_ways_of_running_give_the_same_numbers(paths, options):
    for arrays in (batch(4, 9), batch(2, 30)):
        got, plain = (states(onnx(paths["onnx"], **given), arrays) for given in (options, {}))
        np.testing.assert_allclose(got, plain, atol=BATCH)


def test_a_bound_run_says_as_much_of_a_text_that_is_too_long(paths):
    with pytest.raises(ShapeError, match="lower max_seq_length"):
        states(onnx(paths["onnx"], use_io_binding=True), batch(1, 200))


def test_threads_and_session_options(paths):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    assert onnx(paths["onnx"], threads=2)._session.get_session_options().intra_op_num_threads == 2
    used = onnx(paths["onnx"], session_options=settings, threads=2)._session.get_session_options()
    assert used.intra_op_num_threads == 1


def test_a_truncated_file(paths, tmp_path):
    whole = paths["onnx"].read_bytes()
    for size in (0, 100, len(whole) // 2):
        (tmp_path / "model.onnx").write_bytes(whole[:size])
        with pytest.raises(FolderError, match=r"the graph cannot be opened by onnxruntime.*(truncated|file_name)"):
            onnx(tmp_path / "model.onnx")


def test_weights_that_are_not_beside_their_graph(paths, tmp_path):
    import onnx as package

    split = tmp_path / "model.onnx"
    how = {"save_as_external_data": True, "location": "model.onnx_data", "size_threshold": 1000}
    package.save(package.load(paths["onnx"]), split, **how)
    assert onnx(split).outputs == ("last_hidden_state",)
    (tmp_path / "model.onnx_data").unlink()
    with pytest.raises(FolderError, match="Its weights lie in a file beside it, which must come along"):
        onnx(split)


# -- OpenVINO ----------------------------------------------------------------------------------------------------------


def openvino(path, **options):
    return open_graph("openvino", path, "the graph", options)


def test_settings_come_from_a_dictionary_or_a_file(paths, tmp_path):
    (tmp_path / "ov.json").write_text(json.dumps({"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}))
    for given in (str(tmp_path / "ov.json"), tmp_path / "ov.json"):
        compiled = openvino(paths["openvino"], ov_config=given)._compiled
        assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
        assert str(compiled.get_property("PERFORMANCE_HINT")) == "THROUGHPUT"
    compiled = openvino(paths["openvino"], ov_config={"INFERENCE_NUM_THREADS": 1}, threads=2)._compiled
    assert str(compiled.get_property("PERFORMANCE_HINT")) == "LATENCY"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert openvino(paths["openvino"], threads=1)._compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_settings_that_cannot_be_read(tmp_path):
    assert read_config(None) == {}
    with pytest.raises(InputError, match=r"there is no file .*nothing\.json"):
        read_config(tmp_path / "nothing.json")
    for content, said in (("{", "is not valid JSON"), ("[]", "must hold a JSON object, got list")):
        (tmp_path / "ov.json").write_text(content)
        with pytest.raises(InputError, match=said):
            read_config(str(tmp_path / "ov.json"))


def test_settings_that_the_runtime_refuses(paths):
    with pytest.raises(FolderError, match=r"cannot be compiled by OpenVINO.*NO_SUCH_SETTING.*ov_config"):
        openvino(paths["openvino"], ov_config={"NO_SUCH_SETTING": "1"})


def test_a_device_that_is_not_here(paths):
    with pytest.raises(FolderError, match="cannot be compiled by OpenVINO for NPU"):
        openvino(paths["openvino"], device="NPU")


@pytest.mark.parametrize("lost", ["all", "half", "weights"])
def test_files_that_are_not_whole(paths, tmp_path, lost):
    path = tmp_path / "openvino_model.xml"
    for ending in (".xml", ".bin"):
        shutil.copyfile(paths["openvino"].with_suffix(ending), path.with_suffix(ending))
    said = "truncated or damaged"
    if lost == "weights":
        path.with_suffix(".bin").unlink()
        said = r"Its weights, openvino_model\.bin, are missing"
    else:
        text = path.read_bytes()
        path.write_bytes(text[: len(text) // 2 if lost == "half" else 0])
    with pytest.raises(FolderError, match=rf"the graph cannot be read by OpenVINO.*{said}"):
        openvino(path)


def test_an_onnx_file_runs_too(paths, model):
    arrays = batch(2, 5)
    got = states(openvino(paths["onnx"], **EXACT), arrays)
    np.testing.assert_allclose(got, wanted(model, arrays), atol=PACKED)


# -- what graphs are fed -----------------------------------------------------------------------------------------------


class Takes:
    def __init__(self, **inputs):
        self.inputs = inputs


LEFT = {"input_ids": np.array([[0, 7, 8], [4, 5, 6]]), "attention_mask": np.array([[0, 1, 1], [1, 1, 1]])}
ANY = (None, None)


def test_what_follows_from_ids_and_mask():
    taken = fed(Takes(input_ids=ANY, attention_mask=ANY, token_type_ids=ANY, position_ids=ANY), LEFT)
    assert {array.dtype for array in taken.values()} == {np.dtype(np.int64)}
    assert taken["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert taken["position_ids"].tolist() == [[0, 0, 1], [0, 1, 2]]
    without = fed(Takes(input_ids=ANY, attention_mask=ANY, position_ids=ANY), {"input_ids": LEFT["input_ids"]})
    assert without["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert without["position_ids"].tolist() == [[0, 1, 2], [0, 1, 2]]


def test_what_there_is_goes_as_it_is():
    given = {**LEFT, "token_type_ids": np.ones((2, 3), np.int32), "prompt_length": np.array(3), "more": np.array(1)}
    taken = fed(Takes(token_type_ids=ANY, prompt_length=()), given)
    assert list(taken) == ["token_type_ids", "prompt_length"]
    assert taken["token_type_ids"].sum() == 6
    assert taken["prompt_length"].shape == ()


def test_a_cache_is_empty():
    past = (None, 2, None, 8)
    taken = fed(Takes(**{"past_key_values.0.key": past, "use_cache_branch": (1,)}), LEFT)
    assert taken["past_key_values.0.key"].shape == (2, 2, 0, 8)
    assert taken["past_key_values.0.key"].dtype == np.float32
    assert taken["use_cache_branch"].tolist() == [False]


def test_what_no_text_has_is_named():
    with pytest.raises(InputError, match="'pixel_values', which no text has"):
        fed(Takes(input_ids=ANY, pixel_values=(None, 3, 32, 32)), LEFT)


def test_graphs_with_other_inputs_run(tmp_path):
    path = handmade(tmp_path / "model.onnx", {"input_ids": ["rows", "tokens"], "position_ids": ["rows", "tokens"]})
    ids, mask = LEFT["input_ids"], LEFT["attention_mask"]
    positions = np.maximum(mask.cumsum(1) - 1, 0)[:, :, None]
    for graph in (onnx(path), openvino(path, **EXACT)):
        np.testing.assert_allclose(states(graph, LEFT), table()[ids] + positions, atol=BATCH * 10)


# -- processors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flags", "lacks"),
    [
        ("model.onnx", {"avx2"}, ""),
        ("model_O3.onnx", {"avx2"}, ""),
        ("model_quint8_avx2.onnx", {"avx2"}, ""),
        ("model_quint8_avx2.onnx", {"sse4_2"}, "AVX2"),
        ("model_qint8_avx512.onnx", {"avx2"}, "AVX-512"),
        ("model_qint8_avx512.onnx", {"avx512f"}, ""),
        ("model_qint8_avx512_vnni.onnx", {"avx512f"}, "AVX-512 VNNI"),
        ("model_qint8_avx512_vnni.onnx", {"avx_vnni"}, ""),
        ("model_qint8_arm64.onnx", {"avx2"}, "ARM64"),
        ("model_qint8_arm64.onnx", {"asimd"}, ""),
        ("model_qint8_arm64.onnx", set(), ""),
    ],
)
def test_what_a_processor_lacks_for_a_file(monkeypatch, name, flags, lacks):
    monkeypatch.setattr("fourfold.runtimes.processor.processor", lambda: ("a processor", frozenset(flags)))
    assert lacking(name) == lacks
