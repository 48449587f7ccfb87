"""One weight a token, whatever stands around it: queries of inference-free sparse models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from fourfold.containers import Tokens
from fourfold.errors import FolderError, InputError, WeightsError
from fourfold.modules import _processor
from fourfold.modules._base import Features, InputModule, needed
from fourfold.store.source import Source
from fourfold.store.token_weights import IDF_FILE, check_size, find_weights, read_weights
from fourfold.store.weights import load_into
from fourfold.text.inputs import check_texts
from fourfold.text.prompts import prepend
from fourfold.text.tokenizer import FastTokenizer


class SparseStaticEmbedding(InputModule):
    """Weigh each token that a text holds, once, by a weight of its own, such as its inverse document frequency.

    Queries of sparse models without inference on that side are made so (Geng et al. 2024, arXiv:2411.04403).

    Args:
        tokenizer: A tokenizer of transformers.
        weight: ``[vocabulary]``; None is ones.
        frozen: Whether training leaves the weights alone.

    Raises:
        InputError: If the weights are not one number a token.

    Attributes:
        max_seq_length: Tokens of a text that are kept.
    """

    config_keys: ClassVar[list[str]] = ["frozen"]
    packed = True

    def __init__(self, tokenizer: Any, weight: Tensor | None = None, frozen: bool = False) -> None:
        super().__init__()
        if isinstance(tokenizer, Tokenizer):
            from transformers import PreTrainedTokenizerFast

            tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        self.tokenizer = tokenizer
        known = len(tokenizer.get_vocab())
        weight = torch.ones(known) if weight is None else torch.as_tensor(weight)
        if weight.ndim != 1 or not weight.is_floating_point():
            got = f"{weight.dtype} of shape {tuple(weight.shape)}"
            raise InputError(f"weight must be one floating-point number for each of {known} tokens, got {got}")
        self.weight = nn.Parameter(weight, requires_grad=not frozen)
        self.frozen = frozen
        self.max_seq_length = tokenizer.model_max_length
        self._made_face: tuple[Any, int, Any] | None = None

    @classmethod
    def example(cls) -> SparseStaticEmbedding:
        """Return a tiny instance for tests."""
        from tokenizers import models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        base = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "a": 2, "b": 3, "c": 4}, unk_token="[UNK]"))
        base.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, unk_token="[UNK]", pad_token="[PAD]")
        return cls(tokenizer, torch.arange(5, dtype=torch.float32) / 4)

    @property
    def num_dimensions(self) -> int:
        """Number of weights."""
        return len(self.weight)

    def get_embedding_dimension(self) -> int:
        """Return the number of weights."""
        return self.num_dimensions

    def __repr__(self) -> str:
        shown = f"dim={self.num_dimensions}, tokenizer={type(self.tokenizer).__name__}"
        return f"{type(self).__name__}({self.get_config_dict()}, {shown})"

    # -- texts to features -------------------------------------------------------------------------------------------

    def tokenises(self, kwargs: Mapping[str, Any]) -> bool:
        """Always: no argument changes how texts become ids."""
        return True

    def longest_input(self, **kwargs: Any) -> float | None:
        """Return the most tokens that are kept of a text; None is no limit."""
        length = self.tokenizer.model_max_length
        length = length if self.max_seq_length is None else min(self.max_seq_length, length)
        return None if length > 10**9 else length

    def locating_tokenizer(self, **kwargs: Any) -> FastTokenizer | None:
        """Return the tokenizer that tells where tokens stand in a text, or None if it is written in Python."""
        face = self._face()
        return face if isinstance(face, FastTokenizer) else None

    def tokenise(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Tokens:
        """Return the packed ids of texts, without special tokens."""
        length = self.longest_input()
        return self._face().encode(prepend(prompt, check_texts(inputs)), None if length is None else int(length))

    def _face(self) -> Any:
        # A tokenizer that grew is another one; its size is the cheap sign of that.
        tokenizer, size = self.tokenizer, len(self.tokenizer)
        made = self._made_face
        if made is None or made[0] is not tokenizer or made[1] != size:
            made = self._made_face = (tokenizer, size, _processor.face_of(tokenizer, special=False))
        return made[2]

    def pack(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into packed features: ``input_ids`` ``[1, tokens]`` and ``cu_seq_lens_q`` ``[rows + 1]``."""
        return {
            "input_ids": torch.from_numpy(tokens.ids)[None].long(),
            "cu_seq_lens_q": torch.from_numpy(tokens.offsets).int(),
        }

    def pad(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into ``input_ids`` and ``attention_mask``, int64 ``[rows, longest]``."""
        ids, mask = tokens.padded(self.tokenizer.pad_token_id or 0)
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn texts into ``input_ids`` and ``attention_mask``, int64 ``[rows, longest]``."""
        return self.pad(self.tokenise(inputs, prompt)) if inputs else {}

    # -- features to vectors -----------------------------------------------------------------------------------------

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Write ``sentence_embedding`` ``[rows, vocabulary]``: the weight of each token that a row holds, else 0.

        Packed rows in inference mode are a sparse COO tensor; others are dense. A ``sentence_embedding`` that is there
        is multiplied by it.

        Raises:
            WeightsError: If a token has no weight.
        """
        ids = needed(features, "input_ids", self)
        offsets, before = features.get("cu_seq_lens_q"), features.get("sentence_embedding")
        if offsets is None:
            row, place = features.get("attention_mask", torch.ones_like(ids)).nonzero(as_tuple=True)
            held = ids[row, place]
        else:
            row = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=ids.device), offsets.diff().long())
            held = ids[0, : len(row)]
        shape = (len(ids) if offsets is None else len(offsets) - 1, self.num_dimensions)
        highest = int(held.max()) if len(held) else -1
        if highest >= shape[1]:
            raise WeightsError(f"the tokenizer gives ids up to {highest}, there are {shape[1]} weights")
        if offsets is not None and before is None and torch.is_inference_mode_enabled():
            places = torch.unique(row * shape[1] + held)
            row, held = places // shape[1], places % shape[1]
            features["sentence_embedding"] = torch.sparse_coo_tensor(
                torch.stack([row, held]), self.weight[held], shape, is_coalesced=True, check_invariants=False
            )
            return features
        present = torch.zeros(shape, dtype=self.weight.dtype, device=self.weight.device)
        present[row, held] = 1
        weights = present * self.weight
        features["sentence_embedding"] = weights if before is None else before * weights
        return features

    # -- saving and loading ------------------------------------------------------------------------------------------

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings, the weights and the tokenizer."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization)
        self.save_tokenizer(output_path)

    @classmethod
    def from_source(
        cls,
        source: Source,
        init_defaults: dict[str, Any] | None = None,
        *,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> SparseStaticEmbedding:
        """Build the module from its folder; the weights may be a JSON file that the settings name as ``path``."""
        tokenizer = _processor.load_tokenizer(source, trust_remote_code=trust_remote_code)
        config = {**(init_defaults or {}), **cls.read_config(source)}
        path = config.pop("path", None)
        if path is not None and not isinstance(path, str):
            raise FolderError(f"{source.pretty(cls.config_file_name)}: 'path' must be a string, got {path!r}")
        if path is not None and path.endswith(".json"):
            weight = _weights(find_weights(source, path), tokenizer, source.pretty(path))
            return cls._build({**config, "tokenizer": tokenizer, "weight": weight}, source)
        module = cls._build({**config, "tokenizer": tokenizer}, source)
        load_into(module, source)
        check_size(module.num_dimensions, tokenizer.get_vocab(), source.pretty())
        return module

    @classmethod
    def from_json(
        cls,
        json_path: str,
        tokenizer: Any,
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **config: Any,
    ) -> SparseStaticEmbedding:
        """Build the module from a JSON object of weights by token; tokens without one have weight 0.

        Args:
            json_path: A file, or the hub name of a repository that holds ``idf.json``.
            tokenizer: A tokenizer of transformers.
            token: Hub token.
            cache_folder: Folder for downloads.
            revision: Branch, tag or commit.
            local_files_only: Never use the network.
            **config: Further arguments of the constructor.

        Raises:
            InputError: If there is no such file.
            FolderError: If it holds something else.
        """
        path: Path | None = Path(json_path)
        if path is not None and not path.is_file():
            is_name = json_path.count("/") <= 1 and not json_path.endswith(".json")
            source = Source(json_path, revision, token, cache_folder, local_files_only)
            path = source.file(IDF_FILE) if is_name else None
        if path is None:
            raise InputError(f"{json_path} is neither a JSON file nor a repository that holds {IDF_FILE}")
        return cls(tokenizer, _weights(path, tokenizer, json_path), **config)


def _weights(path: Path, tokenizer: Any, origin: str) -> Tensor:
    """Return ``[vocabulary]`` weights from a JSON object of weights by token."""
    return torch.from_numpy(read_weights(path, tokenizer.get_vocab(), origin))
