import importlib
import itertools
import warnings

import pytest

from fourfold.modules import registry
from fourfold.store import layouts
from fourfold.store.layouts import WRITTEN, family_of, is_library_type, part_name, tokenizer_name, type_string

ST = "sentence_transformers"
DENSE = f"{ST}.sentence_transformer.modules"

# Class, and the file that defines it: what sentence-transformers 6.2 writes.
PACKAGES = {
    f"{ST}.base.modules": {
        "Transformer": "transformer", "Dense": "dense", "Normalize": "normalize", "Router": "router",
    },
    DENSE: {
        "Pooling": "pooling", "StaticEmbedding": "static_embedding", "BoW": "bow", "CNN": "cnn", "LSTM": "lstm",
        "Dropout": "dropout", "LayerNorm": "layer_norm", "WeightedLayerPooling": "weighted_layer_pooling",
        "WordEmbeddings": "word_embeddings", "WordWeights": "word_weights", "CLIPModel": "clip_model",
    },
    f"{ST}.sparse_encoder.modules": {
        "MLMTransformer": "mlm_transformer", "SpladePooling": "splade_pooling",
        "SparseAutoEncoder": "sparse_auto_encoder", "SparseStaticEmbedding": "sparse_static_embedding",
    },
    f"{ST}.cross_encoder.modules": {"LogitScore": "logit_score"},
    f"{ST}.multi_vector_encoder.modules": {
        "MultiVectorMask": "multi_vector_mask", "HierarchicalTokenPooling": "token_pooling",
        "LambdaTokenPooling": "token_pooling",
    },
}  # fmt: skip
SIX_TWO = {name: f"{home}.{file}.{name}" for home, files in PACKAGES.items() for name, file in files.items()}
OF_DENSE = ["Transformer", "StaticEmbedding", "Asym", "Router", "BoW", "CNN", "Dense", "Dropout", "LayerNorm", "LSTM",
            "Normalize", "Pooling", "WeightedLayerPooling", "WordEmbeddings", "WordWeights", "CLIPModel"]  # fmt: skip
OF_SPARSE = ["MLMTransformer", "SpladePooling", "SparseAutoEncoder", "SparseStaticEmbedding"]
SHARED = ["Transformer", "Dense", "Router", "Asym"]

FORMS = [
    *(f"{ST}.models.{n}" for n in OF_DENSE),
    *(f"{ST}.models.{n}.{n}" for n in OF_DENSE),
    *(f"{ST}.sparse_encoder.models.{n}" for n in OF_SPARSE + SHARED),
    *(f"{ST}.sparse_encoder.models.{n}.{n}" for n in OF_SPARSE),
    *(f"{DENSE}.{n}" for n in OF_DENSE),
    f"{DENSE}.normalize.Normalize",
    *(f"{ST}.sparse_encoder.modules.{n}" for n in OF_SPARSE + SHARED),
    *(f"{ST}.cross_encoder.modules.{n}" for n in ["LogitScore", *SHARED]),
    *(f"{ST}.multi_vector_encoder.modules.{n}" for n in PACKAGES[f"{ST}.multi_vector_encoder.modules"]),
    *(f"{ST}.base.modules.{n}" for n in ("Dense", "Normalize", "Router", "Transformer")),
    f"{ST}.base.modules.router.Asym",
    *SIX_TWO.values(),
]
TOKENIZERS = {
    "WhitespaceTokenizer": "whitespace",
    "PhraseTokenizer": "phrase",
    "TransformersTokenizerWrapper": "word",
}
TOKENIZER_FORMS = [
    *(f"{DENSE}.tokenizer.{file}.{n}" for n, file in TOKENIZERS.items()),
    *(f"{ST}.models.tokenizer.{n}" for n in TOKENIZERS),
    f"{ST}.models.tokenizer.WhitespaceTokenizer.WhitespaceTokenizer",
    f"{ST}.models.tokenizer.PhraseTokenizer.PhraseTokenizer",
    f"{ST}.models.tokenizer.WordTokenizer.TransformersTokenizerWrapper",
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_generation_maps(form):
    name = form.rpartition(".")[2].replace("Asym", "Router")
    assert is_library_type(form)
    assert part_name(form) == name
    assert registry.get(name).__name__ == name if name in registry else family_of(name)


@pytest.mark.parametrize("form", TOKENIZER_FORMS)
def test_every_form_of_a_tokenizer_class_maps(form):
    assert tokenizer_name(form) == form.rpartition(".")[2]
    assert part_name(form) is None


@pytest.mark.parametrize(
    "form",
    [
        *(f"{ST}.models.{n}" for n in ("BERT", "RoBERTa", "XLNet", "ALBERT", "CamemBERT", "DistilBERT", "XLMRoBERTa")),
        f"{ST}.models.T5", f"{ST}.models.tokenizer.JiebaTokenizer", f"{ST}.models.SpladePooling",
        f"{ST}.models.SpladePooling.SpladePooling", f"{ST}.base.modules.Asym", f"{ST}.base.modules.Pooling",
        f"{ST}.sparse_encoder.models.Transformer.Transformer", f"{ST}.cross_encoder.modules.Pooling",
        f"{ST}.multi_vector_encoder.modules.Transformer", f"{DENSE}.pooling.Dense", f"{DENSE}.dense.Dense",
        f"{ST}.util.http_get", f"{ST}.models", f"{ST}.Pooling", f"{ST}.models.a.b.Pooling", "torch.nn.Linear",
        "Pooling", "my.models.Pooling", "",
    ],
)  # fmt: skip
def test_other_strings_name_no_part(form):
    assert part_name(form) is None
    assert tokenizer_name(form) is None


@pytest.mark.parametrize(
    ("form", "library"),
    [
        (f"{ST}.models.X", True),
        ("fourfold.modules.X", True),
        (f"{ST}x.models.X", False),
        ("mine.X", False),
        (ST, False),
    ],
)
def test_which_strings_are_the_librarys(form, library):
    assert is_library_type(form) is library


@pytest.mark.parametrize("form", ["fourfold.modules.Pooling", "fourfold.modules.pooling.Pooling"])
def test_our_own_paths_are_read_too(form):
    assert part_name(form) == "Pooling"


def test_what_is_written_is_the_table_of_the_contract():
    assert WRITTEN == SIX_TWO


def test_every_part_has_a_written_form():
    assert {registry.get(name).__name__ for name in registry.names()} <= set(WRITTEN)


@pytest.mark.parametrize("name", registry.names())
def test_a_written_form_is_read_back(name):
    cls = registry.get(name)
    assert part_name(type_string(cls)) == cls.__name__


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Pooling", "dense"),
        ("Router", "dense"),
        ("SpladePooling", "sparse"),
        ("LogitScore", "cross"),
        ("MultiVectorMask", "multi_vector"),
    ],
)
def test_the_family_of_a_class(name, family):
    assert family_of(name) == family


def test_somebody_elses_class_is_written_by_its_path():
    class Mine:
        pass

    assert type_string(Mine) == f"{__name__}.Mine"


# -- against the library whose strings these are -----------------------------------------------------------------------


def resolved(form):
    """What 6.2 makes of a string: a module of that name whose parent has the attribute, else a module's attribute."""
    home, _, name = form.rpartition(".")
    try:
        importlib.import_module(form)
        return getattr(importlib.import_module(home), name)
    except (ImportError, AttributeError):
        pass
    try:
        return getattr(importlib.import_module(home), name)
    except (ImportError, AttributeError):
        return None


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_the_table_accepts_what_the_library_resolves_and_nothing_else():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(ST, reason="sentence-transformers is not installed")
    homes = [*PACKAGES, f"{ST}.models", f"{ST}.sparse_encoder.models", f"{ST}.cross_encoder.models", ST,
             f"{ST}.models.tokenizer", f"{DENSE}.tokenizer"]  # fmt: skip
    names = [*SIX_TWO, "Asym", *TOKENIZERS, "BERT", "JiebaTokenizer"]
    own = {**{name: path.split(".")[-2] for name, path in SIX_TWO.items()}, **TOKENIZERS, "Asym": "router"}
    for home, name in itertools.product(homes, names):
        for form in (f"{home}.{name}", f"{home}.{name}.{name}", f"{home}.{own.get(name, 'x')}.{name}"):
            theirs = resolved(form)
            wanted = theirs.__name__ if isinstance(theirs, type) else None
            assert (part_name(form) or tokenizer_name(form)) == wanted, form
    assert set(layouts._PARTS) >= set(FORMS)
