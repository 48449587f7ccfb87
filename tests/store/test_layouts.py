import pytest

from fourfold.modules import registry
from fourfold.store.layouts import WRITTEN, is_library_type, part_name, type_string

OURS = ["Transformer", "Dense", "Normalize", "Pooling", "StaticEmbedding"]
STEM = {"StaticEmbedding": "static_embedding"}
ST = "sentence_transformers"


def stem(name):
    return STEM.get(name, name.lower())


FORMS = [
    *(f"{ST}.models.{n}" for n in OURS),
    *(f"{ST}.models.{n}.{n}" for n in OURS),
    *(f"{ST}.sentence_transformer.modules.{n}" for n in OURS),
    *(f"{ST}.sentence_transformer.modules.{stem(n)}.{n}" for n in ("Pooling", "StaticEmbedding", "Normalize")),
    *(f"{ST}.base.modules.{n}" for n in ("Dense", "Normalize", "Transformer")),
    *(f"{ST}.base.modules.{stem(n)}.{n}" for n in ("Dense", "Normalize", "Transformer")),
    *(f"{ST}.sparse_encoder.models.{n}" for n in ("Transformer", "Dense")),
    *(f"{ST}.sparse_encoder.modules.{n}" for n in ("Transformer", "Dense")),
    *(f"{ST}.cross_encoder.modules.{n}" for n in ("Transformer", "Dense")),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_generation_maps(form):
    name = form.rpartition(".")[2]
    assert is_library_type(form)
    assert part_name(form) == name
    assert registry.get(part_name(form)).__name__ == name


@pytest.mark.parametrize(
    "form",
    [f"{ST}.util.http_get", f"{ST}.models", f"{ST}.Pooling", f"{ST}.models.a.b.Pooling", "torch.nn.Linear", "Pooling",
     "my.models.Pooling", ""],
)  # fmt: skip
def test_other_strings_name_no_part(form):
    assert part_name(form) is None


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


def test_what_is_written_is_the_table_of_the_contract():
    assert {name: WRITTEN[name] for name in OURS} == {
        "Transformer": f"{ST}.base.modules.transformer.Transformer",
        "Dense": f"{ST}.base.modules.dense.Dense",
        "Normalize": f"{ST}.base.modules.normalize.Normalize",
        "Pooling": f"{ST}.sentence_transformer.modules.pooling.Pooling",
        "StaticEmbedding": f"{ST}.sentence_transformer.modules.static_embedding.StaticEmbedding",
    }


def test_every_part_has_a_written_form():
    assert {registry.get(name).__name__ for name in registry.names()} == set(WRITTEN)


@pytest.mark.parametrize("name", OURS)
def test_a_written_form_is_read_back(name):
    assert part_name(type_string(registry.get(name))) == name


def test_somebody_elses_class_is_written_by_its_path():
    class Mine:
        pass

    assert type_string(Mine) == f"{__name__}.Mine"
