"""Tasks, chat messages, images, arguments of the processor's call: the same features, outputs and folders."""

import json

import numpy as np
import pytest
import torch
from tests.checkpoints import FLAT, STRUCTURED, adapter, clip, images, llava, with_head, with_template
from tests.support import TEXTS, named
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.modules import Transformer
from fourfold.testing import checkpoint
from fourfold.text.messages import conversations
from fourfold.text.modality import infer_batch_modality, infer_modality
from fourfold.text.samples import sort_samples

PICTURES = images()
SOUND, CLIP = np.zeros(3), np.zeros((2, 3, 4, 4))
MESSAGE = {"role": "user", "content": "the text"}
KINDS = ["bert", "flat", "structured", "clip", "llava"]
EXPANSION = {"strategy": "min", "length": 6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        "bert": str(checkpoint("bert", root / "bert")),
        "flat": with_template(root / "flat", FLAT),
        "structured": with_template(root / "structured", STRUCTURED),
        "clip": clip(root / "clip"),
        "llava": llava(root / "llava"),
        "classifier": with_head(root / "classifier", "AutoModelForSequenceClassification", num_labels=3),
        "masked": with_head(root / "masked", "AutoModelForMaskedLM"),
        "causal": with_head(root / "causal", "AutoModelForCausalLM", "qwen3"),
    }


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers.sentence_transformer.modules import Transformer as Theirs

    return Theirs


def same(ours, wanted):
    assert type(ours) is type(wanted)
    if isinstance(wanted, torch.Tensor):
        assert (ours.shape, ours.dtype) == (wanted.shape, wanted.dtype)
        scale = max(1.0, float(wanted.double().abs().max())) if wanted.numel() else 1.0
        np.testing.assert_allclose(ours.double() / scale, wanted.double() / scale, atol=PACKED)
    elif isinstance(wanted, (list, tuple)):
        for one, other in zip(ours, wanted, strict=True):
            same(one, other)
    else:
        assert ours == wanted


def outcome(cls, folder, inputs, options, call):
    """Return what a module makes of inputs: its keys, features and outputs, or the error's type."""
    module = cls(folder, **options).eval()
    try:
        features = module.preprocess(list(inputs), **call)
        prepared = dict(features)
        with torch.inference_mode():
            return prepared, dict(module(features))
    except Exception as error:
        return error


def compare(ours, wanted):
    if isinstance(wanted, Exception):
        # Ours may be a subclass, since it derives from the type that the contract promises.
        assert isinstance(ours, type(wanted)), (ours, wanted)
        return
    assert not isinstance(ours, Exception), ours
    for got, want in zip(ours, wanted, strict=True):
        assert list(got) == list(want)
        for key in want:
            same(got[key], want[key])


CALLS = [
    {},
    {"prompt": "the query "},
    {"max_length": 6},
    {"processing_kwargs": {"text": {"max_length": 6}}},
    {"processing_kwargs": {"text": {"padding": "max_length", "max_length": 40}}},
    {"processing_kwargs": {"chat_template": {"add_generation_prompt": True}}, "max_length": 15},
    {"processing_kwargs": {"chat_template": {"add_generation_prompt": True}}, "max_length": 2},
    {
        "processing_kwargs": {"chat_template": {"add_generation_prompt": True, "restore_suffix": False}},
        "max_length": 15,
    },
    {"processing_kwargs": {"image": {"do_normalize": False}}},
]
INPUTS = {
    "texts": TEXTS,
    "pairs": [("the text", "a"), ["a", "b c d"]],
    "texts of dictionaries": [{"text": "a"}, "the text"],
    "messages": [[MESSAGE], [MESSAGE, {"role": "assistant", "content": "a"}]],
    "messages in parts": [[{"role": "user", "content": [{"type": "text", "text": "the"}]}]],
    "images": PICTURES,
    "images and texts": [PICTURES[0], "the text"],
    "image with text": [{"image": PICTURES[0], "text": "a b"}, {"image": PICTURES[1], "text": "the text"}],
    "another order": [{"image": PICTURES[0], "text": "a b"}, {"text": "the text", "image": PICTURES[1]}],
    "several images": [{"image": PICTURES[:2], "text": "a"}],
    "mixed pair": [("a b", PICTURES[0])],
    "sound": [SOUND],
    "a number": [3],
    "none": [],
}
UNREAD = ("images", "images and texts", "image with text", "another order", "several images", "mixed pair", "sound")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", INPUTS)
def test_every_kind_of_input(folders, theirs, kind, name):
    wanted, ours = (outcome(cls, folders[kind], INPUTS[name], {}, {}) for cls in (theirs, Transformer))
    if name == "none":
        assert theirs(folders[kind]).preprocess([]) == Transformer(folders[kind]).preprocess([]) == {}
        return
    if kind in ("flat", "structured") and name in UNREAD:
        assert isinstance(ours, ValueError)  # there the template is given an image that the model cannot see
        return
    compare(ours, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_argument_of_the_call(folders, theirs, kind, call):
    inputs = PICTURES if "image" in call.get("processing_kwargs", {}) and kind == "clip" else TEXTS
    compare(*(outcome(cls, folders[kind], inputs, {}, call) for cls in (Transformer, theirs)))


@pytest.mark.parametrize("kind", ["bert", "flat"])
@pytest.mark.parametrize(
    "options",
    [
        {"do_lower_case": True},
        {"max_seq_length": 9},
        {"query_length": 5, "document_length": 7},
        {"processing_kwargs": {"text": {"max_length": 6}}},
        {"config_kwargs": {"output_hidden_states": True}},
        {"query_expansion": EXPANSION},
        {"query_expansion": {"strategy": "fixed", "length": 6, "attend": True, "token": "the"}},
        {"query_expansion": EXPANSION, "query_length": 8},
    ],
    ids=str,
)
@pytest.mark.parametrize("task", ["query", "document", None])
def test_every_argument_of_the_constructor(folders, theirs, kind, options, task):
    call = {} if task is None else {"task": task}
    compare(*(outcome(cls, folders[kind], ["THE Text", *TEXTS], options, call) for cls in (Transformer, theirs)))


@pytest.mark.parametrize("length", [4, 6, 9])
@pytest.mark.parametrize("strategy", ["fixed", "min"])
def test_expanded_queries_of_another_length(folders, theirs, strategy, length):
    options, call = {"query_expansion": {"strategy": strategy, "length": 6}}, {"task": "query", "max_length": length}
    compare(*(outcome(cls, folders["bert"], TEXTS, options, call) for cls in (Transformer, theirs)))


@pytest.mark.parametrize(
    "expansion",
    [{}, {"strategy": "x", "length": 6}, {"strategy": "min"}, {**EXPANSION, "length": 0}, {**EXPANSION, "attend": 1},
     {**EXPANSION, "more": 1}, {**EXPANSION, "token": "nope"}],
    ids=str,
)  # fmt: skip
def test_settings_of_expansion_that_are_refused(folders, theirs, expansion):
    for cls in (theirs, Transformer):
        with pytest.raises(ValueError, match=r"query_expansion"):
            cls(folders["bert"], query_expansion=expansion)


@pytest.mark.parametrize(
    ("kind", "task"),
    [("classifier", "sequence-classification"), ("masked", "fill-mask"), ("causal", "text-generation")],
)
@pytest.mark.parametrize("inputs", ["texts", "pairs"])
def test_every_task(folders, theirs, tmp_path, kind, task, inputs):
    options = {"transformer_task": task}
    compare(*(outcome(cls, folders[kind], INPUTS[inputs], options, {}) for cls in (Transformer, theirs)))
    one, other = Transformer(folders[kind], **options), theirs(folders[kind], **options)
    assert repr(one) == repr(other)
    assert one.get_embedding_dimension() == other.get_embedding_dimension()
    one.save(str(tmp_path / "ours"))
    other.save(str(tmp_path / "theirs"))
    files = [{p.name for p in (tmp_path / who).iterdir()} for who in ("ours", "theirs")]
    assert files[0] == files[1]
    compare(outcome(Transformer.load, str(tmp_path / "theirs"), TEXTS, {}, {}),
            outcome(theirs.load, str(tmp_path / "ours"), TEXTS, {}, {}))  # fmt: skip


def test_how_many_logits_are_kept(folders, theirs):
    for kept in (0, 1, 3, -1):
        call = {"processing_kwargs": {"text": {"logits_to_keep": kept}}}
        options = {"transformer_task": "text-generation"}
        compare(*(outcome(cls, folders["causal"], TEXTS, options, call) for cls in (Transformer, theirs)))


@pytest.mark.parametrize("output", [["hidden_states", -1], ["hidden_states", 0], "pooler_output", "nothing"])
def test_every_way_to_an_output(folders, theirs, output):
    entry = {"method": "forward", "method_output_name": output}
    options = {"modality_config": {"text": entry}, "module_output_name": "sentence_embedding"}
    compare(*(outcome(cls, folders["bert"], TEXTS[:2], options, {}) for cls in (Transformer, theirs)))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_models(st, folders, tmp_path, kind):
    ours, other = (cls(folders[kind], device="cpu") for cls in (SentenceTransformer, st.SentenceTransformer))
    assert repr(ours) == repr(other)
    assert (ours.modalities, ours.max_seq_length) == (other.modalities, other.max_seq_length)
    for inputs in (TEXTS, PICTURES, [{"image": PICTURES[0], "text": "a"}, "the text", PICTURES[1]]):
        wanted = tried(lambda inputs: other.encode(inputs, prompt="the query "), inputs)
        if wanted is ValueError or (inputs is not TEXTS and "image" not in ours.modalities):
            with pytest.raises(ValueError, match=r"takes: |not supported"):
                ours.encode(inputs, prompt="the query ")
        else:
            np.testing.assert_allclose(ours.encode(inputs, prompt="the query "), wanted, atol=PACKED)
    ours.save(str(tmp_path / "ours"))
    other.save(str(tmp_path / "theirs"))
    for name in ("sentence_bert_config.json", "modules.json", "config_sentence_transformers.json"):
        got, wanted = (json.loads((tmp_path / who / name).read_text()) for who in ("ours", "theirs"))
        assert got == wanted
    crossed = SentenceTransformer(str(tmp_path / "theirs"), device="cpu")
    np.testing.assert_allclose(crossed.encode(TEXTS), other.encode(TEXTS), atol=PACKED)
    crossed = st.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(crossed.encode(TEXTS), other.encode(TEXTS), atol=PACKED)


def test_adapters(st, folders, tmp_path):
    pytest.importorskip("peft")
    folder = adapter(tmp_path / "adapter", folders["bert"])
    ours, other = (cls(folder, device="cpu") for cls in (SentenceTransformer, st.SentenceTransformer))
    np.testing.assert_allclose(ours.encode(TEXTS), other.encode(TEXTS), atol=PACKED)
    ours.save(str(tmp_path / "ours"))
    other.save(str(tmp_path / "theirs"))
    files = [{p.name for p in (tmp_path / who).iterdir()} for who in ("ours", "theirs")]
    assert files[0] == files[1]
    crossed = st.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(crossed.encode(TEXTS), other.encode(TEXTS), atol=PACKED)


def test_the_older_folder_of_clip(st, folders, tmp_path):
    import shutil

    shutil.copytree(folders["clip"], tmp_path / "old" / "0_CLIPModel")
    entry = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
    (tmp_path / "old" / "modules.json").write_text(json.dumps([entry]))
    ours, other = (cls(str(tmp_path / "old"), device="cpu") for cls in (SentenceTransformer, st.SentenceTransformer))
    for inputs in (TEXTS, PICTURES):
        np.testing.assert_allclose(ours.encode(inputs), other.encode(inputs), atol=PACKED)
    ours.save(str(tmp_path / "ours"))
    other.save(str(tmp_path / "theirs"))
    for name in ("sentence_bert_config.json", "modules.json"):
        assert (tmp_path / "ours" / name).read_text() == (tmp_path / "theirs" / name).read_text()


# -- what inputs are ---------------------------------------------------------------------------------------------------

SAMPLES = [
    "a", "", ("a", "b"), ["a", "b"], ["a"], ("a", "b", "c"), ["a", 1], ("a", PICTURES[0]), PICTURES[0], SOUND, CLIP,
    np.zeros((2, 3)), np.zeros((2, 3, 4)), np.zeros((1,) * 6), np.float32(1), torch.zeros(3), torch.zeros(2, 3, 4),
    torch.tensor(1), MESSAGE, [MESSAGE], {"role": "user"}, {}, {"text": "a"}, {"text": "a", "image": PICTURES[0]},
    {"image": PICTURES[0], "audio": SOUND, "text": "a"}, {"x": 1}, {"text": "a", "sampling_rate": 1},
    {"array": SOUND, "sampling_rate": 1}, {"array": CLIP, "video_metadata": {}}, {"array": SOUND},
    {"audio": {"array": SOUND, "sampling_rate": 1}}, {"video": PICTURES[:2]}, 1, None, 2.5, b"x", {"a"}, [[MESSAGE]],
    np.array(["a", "b"]), np.str_("a"), "http://x.org/a.jpg", "http://x.org/a.JPG?x=1", "http://x.org/a b.jpg",
    "ftp://x/a.jpg", "none.jpg", "data:image/png;base64,xx", "data:audio/wav;x", "DATA:image/png", "https://youtu.be/a",
    "youtube.com/watch", "https://www.youtube.com/watch?v=1", "https://YouTube.com/x", "http://x/a.mp4", "http://x/a.mp3",
    " http://x/a.mp3", "http://x/a.mp3 ", "http://x/a.tif", "http://x/a.jpg/", "http://x/?f=a.jpg",
]  # fmt: skip
SUPPORTED = [None, ["text"], ["text", "image"], ["image"], ["text", "image", "audio", "video", "message"]]


def tried(function, *arguments):
    try:
        return function(*arguments)
    except ValueError:
        return ValueError


@pytest.mark.parametrize("supported", SUPPORTED, ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: named(sample)[:40])
def test_the_modality_of_a_sample(st, sample, supported):
    from sentence_transformers.base import modality

    assert tried(infer_modality, sample, supported) == tried(modality.infer_modality, sample, supported)


@pytest.mark.parametrize(
    "batch", [["a", PICTURES[0]], PICTURES, [], [{"text": "a"}, "b"], [("a", PICTURES[0])]], ids=named
)
def test_the_modality_of_a_batch(st, batch):
    from sentence_transformers.base import modality

    assert tried(infer_batch_modality, batch) == tried(modality.infer_batch_modality, batch)


def shown(value):
    """Return a value in which arrays and images can be compared."""
    if isinstance(value, dict):
        return {key: shown(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(inside) for inside in value]
    return id(value) if hasattr(value, "shape") or hasattr(value, "size") else value


BATCHES = [
    *([sample] for sample in SAMPLES if not (isinstance(sample, str) and "/" in sample)),
    [("a", "b"), PICTURES[0]], [("a", PICTURES[0]), ("b", "c"), "d"], [("a", {"text": "b", "image": PICTURES[0]})],
    [("a", ["b", "c"])], [{"text": "a", "image": PICTURES[0]}, {"image": PICTURES[1], "text": "b"}],
    [{"image": PICTURES[:2], "text": "a"}], [{"text": ["a", "b"]}], [{"audio": [SOUND, SOUND]}],
    [{"array": SOUND, "sampling_rate": 1}, SOUND], [{"array": SOUND, "sampling_rate": r} for r in (1, 2)],
    [{"array": CLIP, "video_metadata": {"fps": 1}}, CLIP], [{"array": CLIP, "video_metadata": None}],
    [{"array": CLIP, "video_metadata": {"fps": 1}}, "http://x/a.mp4"],
]  # fmt: skip


@pytest.mark.parametrize("supported", SUPPORTED[1:], ids=str)
@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: named(batch)[:40])
def test_how_a_batch_is_sorted_and_written_as_messages(st, batch, supported):
    from sentence_transformers.base.modality import InputFormatter

    def ours():
        samples = sort_samples(batch, supported)
        chats = samples.modality == "message" or "message" in supported
        values = {"message": conversations(samples, "structured")} if chats else samples.values
        return samples.modality, shown(values), shown(samples.options)

    def other():
        formatter = InputFormatter("x", "structured", None, supported)
        modality, values, options = formatter.parse_inputs(batch)
        if "message" in supported and modality != "message":
            values = formatter.batch_to_message(modality, values)[1]
        return modality, shown(values), shown(dict(options))

    assert tried(ours) == tried(other)
