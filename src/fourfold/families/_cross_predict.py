"""The cross family's predict: pairs packed by their tokens, scores collected in rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fourfold.backends import Batch
from fourfold.engine.collect import RowSink, Sink
from fourfold.engine.shared import SharedRowSink
from fourfold.errors import InputError, MissingFeatureError
from fourfold.families import _running
from fourfold.families._encoding import Call, shared
from fourfold.families._ranking import Reader, check_scores
from fourfold.modules._base import Features, InputModule
from fourfold.text import prompts as prompting
from fourfold.text.chunks import fast_tokenizer


@dataclass(frozen=True)
class Options(Call):
    """What a caller asked of ``predict``, checked.

    ``labels`` is the number of scores that an input gets; one is handed out without an axis of its own.
    """

    activation: Callable[[Tensor], Tensor] = torch.positive  # which changes nothing
    labels: int = 1
    softmax: bool = False
    as_numpy: bool = True
    as_tensor: bool = False

    @classmethod
    def of(
        cls,
        model: Any,
        *,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        **given: Any,
    ) -> Options:
        """Return the options of a call of a model from the arguments of ``CrossEncoder.predict``.

        A single device moves the model there.

        Raises:
            InputError: If one is unusable.
        """
        common = shared(model, device=device, any_keyword=True, **given)
        model._ready_on(None if common["devices"] is not None else device)
        return cls(
            **common,
            activation=model.activation_fn if activation_fn is None else activation_fn,
            labels=model.num_labels,
            softmax=apply_softmax,
            as_numpy=convert_to_numpy and not convert_to_tensor,
            as_tensor=convert_to_tensor,
        )

    def part(self, count: int) -> Sink:
        """Return what collects the scores of the ``count`` inputs of a window."""
        return RowSink(count, _running.allocate)

    def sink(self, count: int) -> Sink:
        """Return what collects all scores; workers write them in place."""
        return SharedRowSink(count) if self.pool is not None else RowSink(count, _running.allocate)

    def finish(self, features: Features, batch: Batch) -> Any:
        """Return a batch's scores ``[rows]`` or ``[rows, labels]``, in float32 or wider from the activation on."""
        if "scores" not in features:
            known = ", ".join(map(str, features)) or "none"
            raise MissingFeatureError(f"no module of the model wrote the feature 'scores'; there are: {known}")
        scores = features["scores"]
        scores = self.activation(scores.float() if scores.dtype.itemsize < 4 else scores)
        if self.labels == 1 and scores.ndim > 1:
            scores = scores.squeeze(-1)
        if self.softmax and scores.ndim == 2:
            scores = scores.softmax(dim=1)
        if self.apart or self.as_numpy:
            scores = scores.cpu()
        if self.as_numpy:
            scores = scores.float()
        return _running.as_array(scores) if self.apart or self.as_numpy else scores

    def empty(self) -> Any:
        """Return the result for no inputs."""
        if self.as_tensor:
            return torch.zeros(0)
        return np.zeros(0) if self.as_numpy else []

    def result(self, sink: Any, single: bool) -> Any:
        """Return the scores of a full sink in the form that the flags ask for."""
        scores = sink.result()
        check_scores(scores)
        if not self.as_numpy:
            scores = _running.as_tensor(scores)
        if single:
            return scores[0]
        return scores if self.as_numpy or self.as_tensor else list(scores)

    def each(self, sink: Any) -> Iterator[Any]:
        """Yield the scores of a full sink one by one, each in memory of its own."""
        for score in self.result(sink, single=False):
            yield score.copy() if self.as_numpy else score.clone()


def reader_of(model: Any, options: dict[str, Any]) -> Reader:
    """Return what reads pairs, for sorting documents by their passages.

    Args:
        model: A cross encoder.
        options: Arguments of its ``predict``.

    Raises:
        InputError: If the model does not read pairs of texts alone.
    """
    first = model[0]
    kwargs = {name: value for name, value in options.items() if name == "processing_kwargs"}
    if not isinstance(first, InputModule) or not first.tokenises(kwargs):
        raise InputError("rank_passages needs a model that reads texts, without other arguments of its processor")
    prompt = prompting.resolve(
        model.prompts, model.default_prompt_name, options.get("prompt"), options.get("prompt_name")
    )
    return Reader(
        model.num_labels,
        lambda pairs: model.predict(inputs=pairs, **options),
        fast_tokenizer(model.tokenizer),
        first.longest_input(**kwargs),
        lambda pair: len(first.tokenise([pair], prompt, **kwargs).ids),
    )
