"""What a model writes, and that it reads back."""

import json
from collections import OrderedDict

import numpy as np
import pytest
from tests.support import TEXTS, content, load, read_json

from fourfold import SentenceTransformer
from fourfold.modules import Dense, Normalize, StaticEmbedding
from fourfold.testing import WIDTH, tiny, tiny_folder


def test_a_length_is_kept_in_the_folder(tmp_path):
    model = tiny()
    model.max_seq_length = 9
    model.save(tmp_path / "m")
    assert "max_seq_length" not in read_json(tmp_path / "m" / "sentence_bert_config.json")
    assert load(tmp_path / "m").max_seq_length == 9


def test_the_files_of_a_folder(tmp_path):
    tiny(prompts={"query": "q "}).save(tmp_path / "m")
    assert sorted(content(tmp_path / "m")) == [
        "1_Pooling/config.json", "2_Normalize/config.json", "README.md", "config.json",
        "config_sentence_transformers.json", "model.safetensors", "modules.json", "sentence_bert_config.json",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    config = (tmp_path / "m" / "config_sentence_transformers.json").read_text()
    parsed = json.loads(config)
    assert config == json.dumps(parsed, indent=2, sort_keys=True)
    assert parsed["prompts"] == {"document": "", "query": "q "}
    assert parsed["model_type"] == "SentenceTransformer"
    assert parsed["similarity_fn_name"] == "cosine"
    assert parsed["default_prompt_name"] is None
    assert "truncate_dim" not in parsed
    assert read_json(tmp_path / "m" / "modules.json")[1] == {
        "idx": 1, "name": "1", "path": "1_Pooling",
        "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    }  # fmt: skip


def test_saving_what_was_loaded_changes_no_byte(tmp_path):
    tiny(truncate_dim=5, similarity_fn_name="dot").save(tmp_path / "m")
    before = content(tmp_path / "m")
    load(tmp_path / "m").save(tmp_path / "n")
    assert content(tmp_path / "n") == before
    load(tmp_path / "m").save(tmp_path / "m")
    assert content(tmp_path / "m") == before


def test_nothing_is_left_beside_the_folder(tmp_path):
    tiny().save(tmp_path / "m")
    tiny().save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_saving_over_a_folder_while_its_weights_are_mapped(tmp_path):
    tiny().save(tmp_path / "m")
    model = load(tmp_path / "m")
    before = model.encode(TEXTS)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(model.encode(TEXTS), before)
    np.testing.assert_array_equal(load(tmp_path / "m").encode(TEXTS), before)


def test_a_save_that_fails_leaves_the_old_model(tmp_path):
    tiny().save(tmp_path / "m")
    before = content(tmp_path / "m")
    model = tiny(seed=1)

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    model[2].save = fail
    with pytest.raises(OSError, match="no space"):
        model.save(tmp_path / "m")
    assert content(tmp_path / "m") == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_saving_to_nowhere_does_nothing():
    assert tiny().save(None) is None


def test_save_pretrained_is_save(tmp_path):
    tiny().save_pretrained(str(tmp_path / "m"), create_model_card=False)
    assert not (tmp_path / "m" / "README.md").exists()
    assert load(tmp_path / "m").encode("a").shape == (WIDTH,)


def test_pickles_for_the_modules_that_have_weights(tmp_path):
    model = SentenceTransformer(modules=[*[*tiny()][:2], Dense(WIDTH, 4)], device="cpu")
    model.save(tmp_path / "m", safe_serialization=False)
    assert (tmp_path / "m" / "2_Dense" / "pytorch_model.bin").exists()
    assert (tmp_path / "m" / "model.safetensors").exists()
    np.testing.assert_array_equal(load(tmp_path / "m").encode(TEXTS), model.encode(TEXTS))


def test_a_module_whose_save_takes_only_a_path(tmp_path):
    class Older(Normalize):
        def save(self, output_path):
            self.save_config(output_path)

    SentenceTransformer(modules=[StaticEmbedding.example(), Older()], device="cpu").save(tmp_path / "m")
    assert (tmp_path / "m" / "1_Older" / "config.json").exists()


def test_a_second_transformer_gets_a_folder_of_its_own(tmp_path):
    SentenceTransformer(modules=[Normalize(), tiny()[0]], device="cpu").save(tmp_path / "m")
    assert [entry["path"] for entry in read_json(tmp_path / "m" / "modules.json")] == ["0_Normalize", "1_Transformer"]


def test_a_new_card_says_what_the_model_is(tmp_path):
    tiny(similarity_fn_name="dot").save(tmp_path / "m", model_name="me/my-model", train_datasets=["stsb"])
    card = (tmp_path / "m" / "README.md").read_text()
    told = ["- stsb", "128 tokens", "32 dimensions", "Dot", "Pooling({", "sentence-similarity"]
    for part in ('SentenceTransformer("me/my-model")', *told):
        assert part in card


def test_a_card_that_was_loaded_is_written_back(tmp_path):
    tiny().save(tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("my own words: ünï\n", encoding="utf-8")
    load(tmp_path / "m").save(tmp_path / "n", model_name="Other")
    assert (tmp_path / "n" / "README.md").read_text(encoding="utf-8") == "my own words: ünï\n"


def test_an_ordered_dictionary_keeps_its_names(tmp_path):
    model = SentenceTransformer(modules=OrderedDict(words=StaticEmbedding.example(), unit=Normalize()), device="cpu")
    model.save(tmp_path / "m")
    assert [entry["name"] for entry in read_json(tmp_path / "m" / "modules.json")] == ["words", "unit"]
    again = load(tmp_path / "m")
    assert [name for name, _ in again.named_children()] == ["words", "unit"]
    again.save(tmp_path / "n")
    assert read_json(tmp_path / "n" / "modules.json") == read_json(tmp_path / "m" / "modules.json")


def test_a_card_that_cannot_be_made_loses_no_model(tmp_path, caplog):
    model = tiny()

    def fail(*args, **kwargs):
        raise RuntimeError("no card today")

    model.get_embedding_dimension = fail
    assert model.save(tmp_path / "m") is None
    assert not (tmp_path / "m" / "README.md").exists()
    assert "no card today" in caplog.text
    assert load(tmp_path / "m").encode("a").shape == (WIDTH,)


def test_files_of_an_earlier_save_stay(tmp_path):
    tiny().save(tmp_path / "m")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    SentenceTransformer(modules=[StaticEmbedding.example()], device="cpu").save(tmp_path / "m")
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "m" / "1_Pooling" / "config.json").exists()
    assert [type(module) for module in load(tmp_path / "m")] == [StaticEmbedding]


def test_code_of_a_folder_is_saved_where_it_loads_from(tmp_path):
    folder = tmp_path / "m"
    load(tiny_folder()).save(folder)
    (folder / "louder.py").write_text(
        "from fourfold.modules import Normalize\n\n\n"
        "class Louder(Normalize):\n"
        "    def forward(self, features):\n"
        "        features = super().forward(features)\n"
        "        features['sentence_embedding'] = 2 * features['sentence_embedding']\n"
        "        return features\n"
    )
    entries = read_json(folder / "modules.json")
    entries[2]["type"] = "louder.Louder"
    (folder / "modules.json").write_text(json.dumps(entries))
    model = load(folder, trust_remote_code=True)
    model.save(tmp_path / "n")
    assert (tmp_path / "n" / "louder.py").is_file()
    assert (tmp_path / "n" / "2_Louder" / "louder.py").is_file()
    assert read_json(tmp_path / "n" / "modules.json")[2]["type"] == "louder.Louder"
    again = load(tmp_path / "n", trust_remote_code=True)
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    with pytest.raises(ValueError, match="trust_remote_code"):
        load(tmp_path / "n")
