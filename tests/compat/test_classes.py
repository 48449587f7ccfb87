import functools

import pytest
import torch

from fourfold import modules
from fourfold.compat.classes import import_from_string, import_module_class
from fourfold.errors import FolderError
from fourfold.ops.names import fullname, similarity_fct_name
from fourfold.ops.similarity import cos_sim
from fourfold.testing import tiny


def test_full_names():
    assert fullname(torch.nn.Tanh()) == fullname(torch.nn.Tanh) == "torch.nn.modules.activation.Tanh"
    assert fullname("text") == "str"


@pytest.mark.parametrize(
    "path",
    [
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Pooling.Pooling",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "fourfold.models.Pooling",
        "fourfold.modules.pooling.Pooling",
    ],
)
def test_paths_of_every_generation_give_our_class(path, recwarn):
    assert import_from_string(path) is modules.Pooling
    assert import_module_class(path) is modules.Pooling
    assert not recwarn


@pytest.mark.parametrize("path", ["Tanh", "torch.nn.Nope", "no_such_module.X", "sentence_transformers.models.Nope"])
def test_what_is_not_there_is_an_import_error(path):
    with pytest.raises(ImportError):
        import_from_string(path)


def test_code_of_others_needs_trust(tmp_path):
    assert import_module_class("torch.nn.Tanh") is torch.nn.Tanh
    with pytest.raises(FolderError, match="trust_remote_code=True"):
        import_module_class("torch.nn.Tanh", str(tmp_path))
    assert import_module_class("torch.nn.Tanh", str(tmp_path), trust_remote_code=True) is torch.nn.Tanh
    assert import_module_class("sentence_transformers.models.Pooling", str(tmp_path)) is modules.Pooling


def test_similarities_have_readable_names():
    class Learned:
        def get_config_dict(self):
            return {"scale": 2.0}

        def __call__(self, a, b):
            return a

    assert similarity_fct_name(cos_sim) == "cos_sim"
    assert similarity_fct_name(functools.partial(cos_sim, b=1)) == "cos_sim(b=1)"
    assert similarity_fct_name(Learned()) == "Learned(scale=2.0)"
    model = tiny("dense", similarity_fn_name="manhattan")
    assert similarity_fct_name(model.similarity) == "manhattan_sim"
    assert similarity_fct_name(model.similarity_pairwise) == "pairwise_manhattan_sim"
    assert similarity_fct_name(model.encode) == "encode"
