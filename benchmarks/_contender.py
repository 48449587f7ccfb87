"""One contender of ``backends.py`` in a process of its own: reads a request a line, answers with a line of JSON.

It imports nothing of fourfold's benchmarks, so that another environment's interpreter can run it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path


def memory(name: str) -> float:
    """Return a number of this process's memory in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def opened(library: str, folder: str, options: dict):
    """Return a function from texts to vectors."""
    if library == "fourfold.load":
        import fourfold

        model = fourfold.load(folder, **options)
        return lambda texts: model.encode(texts)
    if library == "fastembed":
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        TextEmbedding.add_custom_model(
            model="benchmark", pooling=PoolingType.MEAN, normalization=True, sources=ModelSource(hf="benchmark"),
            dim=384, model_file="onnx/model.onnx",
        )  # fmt: skip
        model = TextEmbedding("benchmark", specific_model_path=folder, threads=2)
        import numpy as np

        return lambda texts: np.array(list(model.embed([texts] if isinstance(texts, str) else texts)))
    model = __import__(library).SentenceTransformer(folder, device="cpu", **options)
    return lambda texts: model.encode(texts)


def main() -> None:
    """Open what the first line names, and answer until there are no more lines."""
    request = json.loads(sys.stdin.readline())
    answers = sys.stdout
    sys.stdout = sys.stderr
    before, start = memory("VmRSS"), time.perf_counter()
    encode = opened(request["library"], request["folder"], request["options"])
    encode("a first text")
    texts = json.loads(Path(request["texts"]).read_text(encoding="utf-8"))
    print(json.dumps({"start": time.perf_counter() - start}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["what"] == "encode":
            start = time.perf_counter()
            vectors = encode(texts[asked["profile"]])
            answer = {"seconds": time.perf_counter() - start}
            if asked.get("save"):
                import numpy as np

                np.save(asked["save"], vectors)
        elif asked["what"] == "one":
            taken = []
            for _ in range(asked["times"]):
                start = time.perf_counter()
                encode(asked["text"])
                taken.append(time.perf_counter() - start)
            answer = {"seconds": statistics.median(taken)}
        else:
            answer = {"memory": memory("VmHWM") - before}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
