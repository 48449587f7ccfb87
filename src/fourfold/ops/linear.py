"""Run linear layers on the CPU through the faster of torch's two matrix libraries.

torch gives float32 products on an x86 CPU to MKL, which on processors of other makers than its own takes an older code
path (half the speed on AMD Zen 5 with AVX-512). The same build of torch carries oneDNN, which looks at the processor's
features. The numbers agree to float32 rounding, no weight is copied, and the model is not touched: a function mode,
active only inside the block and only in its thread, sends ``torch.nn.functional.linear`` there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# oneDNN must win by this much in the trial, so that noise alone changes nothing.
_CLEARLY_FASTER = 1.1
_FEW_TOKENS = 128


class _Inference(TorchFunctionMode):
    """Sends linear layers of CPU tensors through :func:`_steady`, and everything else where it would go."""

    def __init__(self, onednn: bool) -> None:
        super().__init__()
        self.onednn = onednn

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.linear and not kwargs and len(args) >= 2:
            states, weight = args[0], args[1]
            plain = type(states) is Tensor and type(weight) in (Tensor, nn.Parameter) and states.device.type == "cpu"
            if plain and states.dtype is weight.dtype:
                bias = args[2] if len(args) > 2 else None
                if states.dtype is torch.float32 and self.onednn:
                    return _steady(_onednn, states, weight, bias)
                if states.dtype in (torch.bfloat16, torch.float16):
                    return _steady(func, states, weight, bias)
        return func(*args, **(kwargs or {}))


def _onednn(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(states, weight, bias, "none", [], "")


def steady_rows(rows: int) -> int:
    """Return the number of rows that a product of ``rows`` rows is computed with: eight sizes an octave, or up to 64.

    oneDNN keeps code, and memory as large as the output, for each of the last thousand shapes it has met, which for
    batches of ever new sizes adds up to gigabytes. Few sizes keep it flat, for one part in sixteen more work at most
    on average.

    >>> [steady_rows(rows) for rows in (1, 3, 64, 65, 300, 2000)]
    [1, 8, 64, 72, 320, 2048]
    """
    if rows <= 1:
        return rows
    step = max(8, 1 << ((rows - 1).bit_length() - 4)) if rows > 16 else 8
    return -(-rows // step) * step


def runs_plain(tokens: int, dtype: torch.dtype | None) -> bool:
    """Whether a batch runs as it is, with torch's own choice of library: float32 that is short, or gains nothing.

    torch's own float32 products keep nothing for a shape, and the function mode that chooses another library costs some
    microseconds for each of the hundreds of functions that a forward calls, more than a faster product of few rows
    saves. In half precision torch itself turns to oneDNN.
    """
    if dtype in (torch.bfloat16, torch.float16):
        return False
    return dtype != torch.float32 or runs_short(tokens, dtype) or not onednn_wins()


def runs_short(tokens: int, dtype: torch.dtype | None) -> bool:
    """Whether a float32 batch is so short that what surrounds its products counts."""
    return tokens <= _FEW_TOKENS and dtype == torch.float32


def _steady(product: Callable[..., Tensor], states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute a linear layer with :func:`steady_rows` rows; what is added is zeros, and cut off again.

    Packed batches come in such sizes, so that nothing is copied; padded ones and other people's modules may not.
    """
    rows = states.numel() // max(states.shape[-1], 1)
    steady = steady_rows(rows)
    if steady == rows:
        return product(states, weight, bias)
    padded = states.new_empty(steady, states.shape[-1])
    padded[:rows] = states.reshape(rows, -1)
    padded[rows:] = 0
    return product(padded, weight, bias)[:rows].view(*states.shape[:-1], weight.shape[0])


def fastest_linear(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which inference on ``device`` uses the faster library; it changes no other thread."""
    # The operator takes no part in autograd, and would not see that autocast wants another type.
    usable = device.type == "cpu" and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    return _Inference(onednn_wins()) if usable else contextlib.nullcontext()


@cache
def onednn_wins() -> bool:
    """Whether oneDNN is clearly faster on this machine, by a trial of some milliseconds, once a process."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(512, 512, generator=generator) for _ in range(2))
    with torch.inference_mode():
        # oneDNN prepares a kernel for each shape on its first call; that is not what is compared.
        first, second = functional.linear(states, weight), _onednn(states, weight, None)
        if not torch.allclose(first, second, atol=1e-3):
            return False
        usual, other = [], []
        for _ in range(5):
            usual.append(_seconds(functional.linear, (states, weight)))
            other.append(_seconds(_onednn, (states, weight, None)))
    return min(usual) > _CLEARLY_FASTER * min(other)


def _seconds(function: Callable[..., Any], arguments: Iterable[Any]) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start
