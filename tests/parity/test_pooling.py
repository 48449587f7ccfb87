"""Every pooling mode, with prompts counted and not, on both sides of padding, in both libraries."""

import numpy as np
import pytest
from tests.support import TEXTS
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.modules import Pooling
from fourfold.testing import WIDTH, checkpoint

MODES = [*Pooling.POOLING_MODES, ["cls", "mean"], ["lasttoken", "max", "weightedmean"]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return {name: str(checkpoint(name, folder / name)) for name in ("bert", "qwen3", "mpnet")}


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("architecture", ["bert", "qwen3", "mpnet"])
def test_modes_equal(st, plain, tmp_path, mode, include_prompt, architecture):
    modules = st.sentence_transformer.modules
    body = modules.Transformer(plain[architecture])
    theirs = st.SentenceTransformer(
        modules=[body, modules.Pooling(WIDTH, mode, include_prompt)], device="cpu", prompts={"query": "query: "}
    )
    theirs.save(str(tmp_path))
    ours = SentenceTransformer(str(tmp_path), device="cpu")
    assert ours[1].get_config_dict() == theirs[1].get_config_dict()
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
    for prompt in (None, "query"):
        wanted = theirs.encode(TEXTS, prompt_name=prompt)
        for packs in (None, False):
            ours[0].unpad_inputs = packs
            np.testing.assert_allclose(ours.encode(TEXTS, prompt_name=prompt), wanted, atol=10 * PACKED, rtol=PACKED)
