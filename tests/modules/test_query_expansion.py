import logging

import pytest
import torch
from tests.checkpoints import FLAT, with_template
from tests.support import needs_packing

from fourfold import notices
from fourfold.errors import InputError
from fourfold.modules import Transformer
from fourfold.modules._query_expansion import check
from fourfold.testing import checkpoint

MIN = {"strategy": "min", "length": 6}
FIXED = {"strategy": "fixed", "length": 6}
LONG = "a b c d e f g h i"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture(autouse=True)
def _afresh(monkeypatch):
    monkeypatch.setattr(notices, "_said", set())


def words(module, features):
    return [module.tokenizer.decode(row) for row in features["input_ids"]]


def test_the_setting_gets_all_its_keys(bert, tmp_path):
    module = Transformer(bert, query_expansion=MIN)
    assert module.query_expansion == {"strategy": "min", "attend": False, "token": None, "length": 6}
    module.save(str(tmp_path))
    assert Transformer.load(str(tmp_path)).query_expansion == module.query_expansion
    module.query_expansion = None
    assert "query_expansion" not in module.get_config_dict()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("fixed", "must be a dictionary"),
        ({}, "'strategy'"),
        ({"strategy": "most", "length": 6}, "'strategy'"),
        ({"strategy": "min"}, "'length'"),
        ({"strategy": "min", "length": 0}, "'length'"),
        ({"strategy": "min", "length": True}, "'length'"),
        ({**MIN, "attend": 1}, "'attend'"),
        ({**MIN, "token": 3}, "'token'"),
        ({**MIN, "lenght": 3}, "Did you mean 'length'"),
    ],
)
def test_what_is_no_setting(given, said):
    with pytest.raises(InputError, match=said):
        check(given, None)


def test_a_query_must_have_room_for_it(bert):
    with pytest.raises(InputError, match="query_length=4"):
        Transformer(bert, query_expansion=MIN, query_length=4)
    module = Transformer(bert, query_length=4)
    with pytest.raises(InputError, match="query_length=4"):
        module.query_expansion = MIN
    assert module.query_expansion is None


def test_the_token_must_be_known(bert):
    with pytest.raises(InputError, match="'nowhere' is not in the tokenizer's vocabulary"):
        Transformer(bert, query_expansion={**MIN, "token": "nowhere"})
    module = Transformer(bert, query_expansion={**MIN, "token": "the"})
    assert words(module, module.preprocess(["a"], task="query")) == ["[CLS] a [SEP] the the the"]


def test_min_fills_up_to_the_length_and_lets_longer_ones_be(bert):
    module = Transformer(bert, query_expansion=MIN)
    features = module.preprocess(["a", LONG], task="query")
    assert words(module, features) == [
        "[CLS] a [SEP] [MASK] [MASK] [MASK] [PAD] [PAD] [PAD] [PAD] [PAD]", f"[CLS] {LONG} [SEP]"
    ]  # fmt: skip
    assert features["query_expansion_positions"].nonzero().tolist() == [[0, 3], [0, 4], [0, 5]]
    assert features["attention_mask"].sum(dim=1).tolist() == [3, 11]
    assert features["token_type_ids"].sum() == 0
    alone = module.preprocess(["a"], task="query")
    assert {key: alone[key].shape for key in ("input_ids", "attention_mask", "token_type_ids")} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), (1, 6)
    )


def test_fixed_is_always_as_wide(bert, caplog):
    module = Transformer(bert, query_expansion={**FIXED, "attend": True})
    with caplog.at_level(logging.WARNING):
        features = module.preprocess(["a", LONG], task="query", prompt="text ")
    assert words(module, features) == ["[CLS] text a [SEP] [MASK] [MASK]", "[CLS] text a b c [SEP]"]
    assert features["attention_mask"].sum(dim=1).tolist() == [6, 6]
    assert features["prompt_length"] == 2
    assert "what went beyond was cut" in caplog.text


@pytest.mark.parametrize(
    ("expansion", "asked", "width", "warned"),
    [(FIXED, 9, 6, "is ignored"), (MIN, 4, 6, "is raised"), (MIN, 9, 9, None), (FIXED, 6, 6, None)],
)
def test_a_length_of_one_call(bert, caplog, expansion, asked, width, warned):
    module = Transformer(bert, query_expansion=expansion)
    with caplog.at_level(logging.WARNING):
        assert module.preprocess([LONG], task="query", max_length=asked)["input_ids"].shape == (1, width)
    assert (f"max_length={asked}" in caplog.text) is (warned is not None)
    assert warned is None or warned in caplog.text


@needs_packing
def test_documents_and_inputs_without_a_task_are_as_always(bert):
    module, plain = Transformer(bert, query_expansion=MIN), Transformer(bert)
    for task in ("document", None):
        got, wanted = (m.preprocess(["a"], task=task) for m in (module, plain))
        assert got.keys() == wanted.keys()
        assert torch.equal(got["input_ids"], wanted["input_ids"])
    assert module.packs({"task": "document"})
    assert not module.packs({"task": "query"})
    assert not module.tokenises({"task": "query"})


def test_a_chat_template_keeps_its_ending(tmp_path):
    module = Transformer(with_template(tmp_path, FLAT), query_expansion=MIN)
    with pytest.raises(InputError, match="chat template"):
        module.preprocess(["a"], task="query")
    assert module.preprocess(["a"], task="document")["modality"] == "message"
