"""The dense family's ``encode_chunks``: chunks encoded each alone, or late."""

from __future__ import annotations

from typing import Any

from fourfold.containers import ChunkedText
from fourfold.errors import InputError
from fourfold.families import _running
from fourfold.families._chunks import Cutting, Offsets, chunked, each_alone
from fourfold.families._dense_encode import Options
from fourfold.families._late import SpanBackend, Whole, Window, encode_late
from fourfold.modules._base import InputModule


def encode_chunks(
    model: Any, inputs: Any, options: Options, *, late: bool, size: int | None, overlap: int, spans: Any
) -> ChunkedText | list[ChunkedText]:
    """Encode the chunks of one text or of each text of a batch; see ``SentenceTransformer.encode_chunks``."""
    first = model[0]
    tokenizer, longest = None, model.max_seq_length
    if isinstance(first, InputModule):
        tokenizer, longest = first.locating_tokenizer(**options.kwargs), first.longest_input(**options.kwargs)
    prompt = options.prompt or ""
    cutting = Cutting.of(inputs, tokenizer, longest, size=size, overlap=overlap, spans=spans, prompt=prompt)
    if late:
        return chunked(inputs, lambda texts: _late(model, texts, cutting, options))
    return chunked(inputs, lambda texts: each_alone(cutting, texts, lambda pieces: _alone(model, pieces, options)))


def _alone(model: Any, pieces: list[str], options: Options) -> Any:
    # Subclasses override encode and find every argument by its name.
    return model.encode(
        inputs=pieces,
        prompt=options.prompt or "",
        batch_size=options.batch_size,
        show_progress_bar=options.show_progress_bar,
        precision=options.precision,
        convert_to_tensor=options.as_tensor,
        device=options.devices,
        normalize_embeddings=options.normalize,
        truncate_dim=options.truncate_dim,
        pool=options.pool,
        chunk_size=options.chunk_size,
        **options.kwargs,
    )


def _late(model: Any, texts: list[str], cutting: Cutting, options: Options) -> tuple[list[Offsets], Any]:
    if options.pool is not None or options.devices is not None:
        raise InputError("late=True runs in this process; give neither pool nor a list of devices")
    torch_backend = options.backend(model)
    backend = SpanBackend(torch_backend)
    skip = 0
    if options.prompt and not backend.pooling.include_prompt:
        skip = cutting.needed_tokenizer().prompt_length(options.prompt)
    offsets: list[Offsets] = []
    windows: list[Window | list[Window]] = []
    row = 0
    for text, (some, located) in zip(texts, cutting.located(texts), strict=True):
        whole = Whole(text, located, len(cutting.prompt), skip, cutting.longest)
        windows.extend(whole.windows(some, row))
        offsets.append(some)
        row += len(some)
    if not row:
        return offsets, _alone(model, [""], options)[:0]
    sink = options.part(row)
    with _running.inference(model):
        budget = _running.budget_for(torch_backend, options.batch_size)
        progress = _running.progress(options.show_progress_bar)
        encode_late(backend, windows, sink, budget, finish=options.finish, progress=progress)
        return offsets, options.result(sink, single=False)
