"""A language model that also sees, as a reranker of texts and images, beside the older library's."""

import numpy as np
import pytest
from tests.checkpoints import images, llava
from tests.parity.published import loaded_in_silence
from tests.tolerances import PACKED

from fourfold import CrossEncoder

IMAGES = images(3)
PAIRS = [
    ("the query", "a document"),
    ("the query", IMAGES[0]),
    ("another query of the world", IMAGES[1]),
    (IMAGES[2], "the text"),
]


@pytest.fixture(scope="module")
def models(st, tmp_path_factory):
    from sentence_transformers.cross_encoder.modules import LogitScore
    from sentence_transformers.sentence_transformer import modules as theirs

    from fourfold import modules as ours

    folder = llava(tmp_path_factory.mktemp("seeing"), "LlavaForConditionalGeneration")
    made = []
    for lib, score, cls in ((ours, ours.LogitScore, CrossEncoder), (theirs, LogitScore, st.CrossEncoder)):
        transformer = lib.Transformer(folder, transformer_task="any-to-any")
        made.append(cls(modules=[transformer, score(9, 5)], device="cpu"))
    return made


@pytest.mark.parametrize("options", [{}, {"prompt": "judge it"}, {"batch_size": 1}], ids=str)
def test_scores_of_texts_and_images(models, options):
    ours, theirs = (model.predict(PAIRS, **options) for model in models)
    np.testing.assert_allclose(ours, theirs, atol=PACKED)
    assert len({float(score) for score in ours.round(4)}) == len(PAIRS)


def test_images_are_ranked(models):
    documents = [IMAGES[0], "a text", IMAGES[1]]
    ours, theirs = (model.rank("the query", documents) for model in models)
    assert [hit["corpus_id"] for hit in ours] == [hit["corpus_id"] for hit in theirs]
    assert models[0].modalities == models[1].modalities


def test_folders_both_ways(st, models, tmp_path, caplog):
    wanted = models[1].predict(PAIRS)
    for model, name in zip(models, ("ours", "theirs"), strict=True):
        model.save(str(tmp_path / name), create_model_card=False)
        np.testing.assert_allclose(CrossEncoder(str(tmp_path / name), device="cpu").predict(PAIRS), wanted, atol=PACKED)
    back = loaded_in_silence(lambda: st.CrossEncoder(str(tmp_path / "ours"), device="cpu"), caplog)
    np.testing.assert_allclose(back.predict(PAIRS), wanted, atol=PACKED)
