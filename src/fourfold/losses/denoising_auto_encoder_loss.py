"""TSDAE: a decoder writes the text that was damaged, from the vector of what was left of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from fourfold.errors import InputError
from fourfold.losses._base import Takes, check_columns
from fourfold.losses._citations import entry
from fourfold.losses._gradient_cache import has_static_embedding_input
from fourfold.losses._rows import rows_of, token_rows
from fourfold.modules._base import Features

logger = logging.getLogger(__name__)


class DenoisingAutoEncoderLoss(nn.Module):
    """Predict the tokens of a text from the vector of a damaged copy of it.

    Columns: damaged text, text; labels are not read. ``DenoisingAutoEncoderDataset`` leaves out words of texts.

    Args:
        model: The encoder, on a transformer.
        decoder_name_or_path: Folder or hub name of the decoder; the encoder's own checkpoint where they are tied.
        tie_encoder_decoder: Whether the decoder shares the encoder's weights; its attention to the vector is its own.

    Raises:
        InputError: If the model has no transformer, the decoder is of a kind that cannot decode, or the two do not fit
            together.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "damaged text, text")
    citation = entry(
        "inproceedings", "wang-2021-TSDAE",
        title="TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence Embedding "
        "Learning",
        author="Wang, Kexin and Reimers, Nils and Gurevych, Iryna",
        booktitle="Findings of the Association for Computational Linguistics: EMNLP 2021", year=2021, pages="671-688",
        url="https://arxiv.org/abs/2104.06979",
    )  # fmt: skip

    def __init__(self, model: Any, decoder_name_or_path: str | None = None, tie_encoder_decoder: bool = True) -> None:
        super().__init__()
        if has_static_embedding_input(model):
            raise InputError("DenoisingAutoEncoderLoss needs a transformer to tie a decoder to, not static embeddings")
        self.encoder = model
        self.tokenizer_encoder = model.tokenizer
        name = _name_of_decoder(model, decoder_name_or_path, tie_encoder_decoder)
        self.decoder_name_or_path = name
        self.tokenizer_decoder, self.decoder = _decoder(name)
        width, states = model.get_embedding_dimension(), self.decoder.config.hidden_size
        if width != states:
            raise InputError(f"the model's vectors have {width} numbers, the decoder reads {states}; they must agree")
        self.need_retokenization = type(self.tokenizer_encoder) is not type(self.tokenizer_decoder)
        if tie_encoder_decoder:
            self._tie()
        self.decoder.to(model.device)

    def _tie(self) -> None:
        """Give the decoder the encoder's weights, as far as it has some of the same names."""
        if self.need_retokenization:
            raise InputError("a decoder with another tokenizer cannot share the encoder's weights")
        encoder = self.encoder[0].auto_model
        size = len(self.tokenizer_encoder)
        if size > len(self.tokenizer_decoder):
            logger.warning("the encoder's vocabulary has grown to %d tokens; the decoder's grows with it", size)
            self.tokenizer_decoder = self.tokenizer_encoder
            self.decoder.resize_token_embeddings(size)
        base = getattr(self.decoder, self.decoder.base_model_prefix)
        shared = dict(base.named_parameters())
        tied = 0
        for name, parameter in list(encoder.named_parameters()):
            if name in shared and shared[name].shape == parameter.shape:
                owner_name, _, last = name.rpartition(".")
                setattr(encoder.get_submodule(owner_name), last, shared[name])
                shared[name].data.copy_(parameter.data)
                tied += 1
        if not tied:
            logger.warning(
                "no weights of the decoder %s have the names of the encoder's: nothing is tied", type(base).__name__
            )

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the cross entropy of the tokens of the second column."""
        columns = list(sentence_features)
        check_columns(self, columns)
        damaged, whole = columns
        vectors = self.encoder(dict(damaged))["sentence_embedding"]
        ids = self._target_ids(whole)
        inputs, targets = ids[:, :-1], ids[:, 1:]
        pad = self.tokenizer_decoder.pad_token_id
        logits = self.decoder(
            input_ids=inputs.contiguous(),
            inputs_embeds=None,
            attention_mask=None,
            encoder_hidden_states=vectors[:, None],
            encoder_attention_mask=torch.ones(rows_of(damaged), 1, dtype=torch.long, device=vectors.device),
            return_dict=True,
            use_cache=False,
        )[0]
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=pad)

    def _target_ids(self, features: Features) -> Tensor:
        """Return the ids that are to be written, padded at the end."""
        device = self.encoder.device
        if self.need_retokenization:
            texts = self.tokenizer_encoder.batch_decode(token_rows(features), skip_special_tokens=True)
            found = self.tokenizer_decoder(texts, padding=True, truncation="longest_first", return_tensors="pt")
            return found["input_ids"].to(device)
        if "attention_mask" in features:
            return features["input_ids"].to(device)
        pad = self.tokenizer_decoder.pad_token_id
        return pad_sequence(token_rows(features), batch_first=True, padding_value=pad).to(device)

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {"decoder_name_or_path": self.decoder_name_or_path, "need_retokenization": self.need_retokenization}


def _name_of_decoder(model: Any, asked: str | None, tied: bool) -> str:
    own = model[0].auto_model.config._name_or_path
    if not tied:
        if asked is None:
            raise InputError("decoder_name_or_path is needed where the decoder does not share the encoder's weights")
        return asked
    if asked is not None and asked != own:
        logger.warning("decoder_name_or_path=%r is ignored: a tied decoder is the encoder's own, %r", asked, own)
    return own


def _decoder(name: str) -> tuple[Any, Any]:
    """Return the tokenizer and the model of a decoder that attends to an encoder."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)
    config = AutoConfig.from_pretrained(name)
    config.is_decoder = True
    config.add_cross_attention = True
    try:
        decoder = AutoModelForCausalLM.from_pretrained(name, config=config)
    except ValueError as error:
        logger.error("%s has no form that decodes", name)
        raise InputError(f"the decoder {name} cannot be loaded as a language model: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        decoder.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, decoder
