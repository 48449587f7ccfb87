"""Model parts, one a file, found by :data:`registry`.

Names of classes are served lazily, so that ``from fourfold.modules import Pooling`` imports only that part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fourfold.registry import Registry

if TYPE_CHECKING:
    from fourfold.modules._base import InputModule as InputModule
    from fourfold.modules._base import Module as Module
    from fourfold.modules.bow import BoW as BoW
    from fourfold.modules.clip_model import CLIPModel as CLIPModel
    from fourfold.modules.cnn import CNN as CNN
    from fourfold.modules.dense import Dense as Dense
    from fourfold.modules.dropout import Dropout as Dropout
    from fourfold.modules.layer_norm import LayerNorm as LayerNorm
    from fourfold.modules.logit_score import LogitScore as LogitScore
    from fourfold.modules.lstm import LSTM as LSTM
    from fourfold.modules.mlm_transformer import MLMTransformer as MLMTransformer
    from fourfold.modules.normalize import Normalize as Normalize
    from fourfold.modules.pooling import Pooling as Pooling
    from fourfold.modules.router import Router as Router
    from fourfold.modules.static_embedding import StaticEmbedding as StaticEmbedding
    from fourfold.modules.transformer import Transformer as Transformer
    from fourfold.modules.weighted_layer_pooling import WeightedLayerPooling as WeightedLayerPooling
    from fourfold.modules.word_embeddings import WordEmbeddings as WordEmbeddings
    from fourfold.modules.word_weights import WordWeights as WordWeights

registry = Registry("fourfold.modules", "module")


def __getattr__(name: str) -> Any:
    if name in ("Module", "InputModule"):
        from fourfold.modules import _base

        return getattr(_base, name)
    return registry.attribute(name)
