"""Where a model card sends its reader: the documentation of models of a family, and further reading."""

from __future__ import annotations

from typing import NamedTuple

_REPOSITORY = "**Repository:** [sentence-transformers on GitHub](https://github.com/huggingface/sentence-transformers)"
_ON_THE_HUB = "https://huggingface.co/models?library=sentence-transformers"


class Links(NamedTuple):
    """Lines of markdown.

    Attributes:
        sources: About models of the family.
        resources: Further reading.
    """

    sources: tuple[str, ...]
    resources: tuple[str, ...] = ()


DENSE = Links(
    sources=(
        "**Documentation:** [Sentence Transformers](https://sbert.net)",
        _REPOSITORY,
        f"**Hugging Face:** [Models of this kind]({_ON_THE_HUB})",
    ),
    resources=(
        "[Training embedding models](https://huggingface.co/blog/train-sentence-transformers)",
        "[Matryoshka embeddings](https://huggingface.co/blog/matryoshka): vectors that may be cut short",
        "[Embedding quantization](https://huggingface.co/blog/embedding-quantization): vectors of a quarter the size",
    ),
)
SPARSE = Links(
    sources=(
        "**Documentation:** [Sparse encoders](https://sbert.net/docs/sparse_encoder/usage/usage.html)",
        _REPOSITORY,
        f"**Hugging Face:** [Models of this kind]({_ON_THE_HUB}&other=sparse-encoder)",
    ),
    resources=("[Training sparse encoders](https://huggingface.co/blog/train-sparse-encoder)",),
)
CROSS = Links(
    sources=(
        "**Documentation:** [Cross encoders](https://sbert.net/docs/cross_encoder/usage/usage.html)",
        _REPOSITORY,
        f"**Hugging Face:** [Models of this kind]({_ON_THE_HUB}&other=cross-encoder)",
    ),
    resources=("[Training rerankers](https://huggingface.co/blog/train-reranker)",),
)
