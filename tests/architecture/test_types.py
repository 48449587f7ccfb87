"""What a type checker knows of the public methods: the flags of encode decide its result."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed")

ARRAY, TENSOR = "numpy.ndarray[tuple[Any, ...], numpy.dtype[Any]]", "torch._tensor.Tensor"
FEATURES = "dict[str, Any]"

CALLS = {
    'model.encode(["a"])': ARRAY,
    'model.encode("a")': ARRAY,
    'model.encode(("a", "b"), batch_size=8, normalize_embeddings=True)': ARRAY,
    'model.encode(np.array(["a"]), precision="int8")': ARRAY,
    'model.encode([{"role": "user", "content": "a"}], convert_to_numpy=True)': ARRAY,
    'model.encode(["a"], convert_to_tensor=True)': TENSOR,
    'model.encode("a", convert_to_tensor=True, convert_to_numpy=True)': TENSOR,
    'model.encode(["a"], convert_to_numpy=False)': f"list[{TENSOR}]",
    'model.encode(["a"], convert_to_numpy=False, convert_to_tensor=False)': f"list[{TENSOR}]",
    'model.encode("a", convert_to_numpy=False)': TENSOR,
    'model.encode(["a"], convert_to_numpy=False, convert_to_tensor=True)': TENSOR,
    'model.encode("a", output_value="token_embeddings")': TENSOR,
    'model.encode(["a"], output_value="token_embeddings")': f"list[{TENSOR}]",
    'model.encode("a", output_value=None)': FEATURES,
    'model.encode(["a"], output_value=None, convert_to_numpy=False)': f"list[{FEATURES}]",
    'model.encode(["a"], output_value="token_embeddings", precision="int8")': "Any",
    'model.encode(["a"], "query", None, 8)': "Any",
    'model.encode(["a"], convert_to_tensor=flag)': "Any",
    'model.encode_query("a", convert_to_tensor=True)': TENSOR,
    'model.encode_query("a")': ARRAY,
    'model.encode_document(["a"], pool=pool)': ARRAY,
    'model.encode_document(["a"], convert_to_numpy=False)': f"list[{TENSOR}]",
    'model.encode_multi_process(["a"], pool)': ARRAY,
    'model.encode_stream(iter(["a"]))': f"typing.Generator[{ARRAY}, None, None]",
    'model.encode_stream(["a"], convert_to_tensor=True, window=8)': f"typing.Generator[{TENSOR}, None, None]",
    'model.encode_stream(["a"], output_value=None)': "typing.Generator[Any, None, None]",
    'model.similarity(model.encode(["a"]), model.encode("b"))': TENSOR,
    "model.similarity_pairwise([0.1], [0.2])": TENSOR,
    "model.get_embedding_dimension()": "int | None",
    'model.start_multi_process_pool(["cpu"])': "fourfold.engine.workers.WorkerPool",
    'model.encode(unknown)': ARRAY,
    'model.encode(unknown, convert_to_tensor=True)': TENSOR,
    'model.encode(list_of_unknown, batch_size=8)': ARRAY,
    'model.encode(sentences=["a"])': ARRAY,
    'model.encode(["a"], convert_to_numpy=flag)': "Any",
    'model.encode(["a"], output_value="attention_mask")': "Any",
    'model.encode({"text": "a"}, convert_to_numpy=False)': "Any",
    'fourfold.load().encode(["a"])': ARRAY.replace("[Any]]", "[numpy.floating[numpy._typing._nbit_base._32Bit]]]"),
}  # fmt: skip

HEAD = """
from typing import Any

import numpy as np
import fourfold
from fourfold import SentenceTransformer

model = SentenceTransformer("name")
pool = model.start_multi_process_pool()
flag: bool = bool(pool)
unknown: Any = 1
list_of_unknown: list[Any] = []


class Own(SentenceTransformer):
    def encode(self, inputs: object, **options: object) -> str:  # type: ignore[override]
        return "own"


class Plain(SentenceTransformer):
    def encode(self, inputs: Any = None, *args: Any, **options: Any) -> Any:
        return super().encode(inputs, *args, **options)

"""


@pytest.mark.slow
def test_a_type_checker_knows_the_results(tmp_path):
    path = tmp_path / "calls.py"
    path.write_text(HEAD + "\n".join(f"reveal_type({call})" for call in CALLS) + "\nreveal_type(Own().encode(1))\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", path], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(str(path)) or "calls.py" in line]
    errors = [line for line in lines if ": error:" in line]
    assert not errors, "\n".join(errors)
    got = [line.partition('Revealed type is "')[2].rstrip('"') for line in lines if "Revealed" in line]
    assert dict(zip([*CALLS, "own"], got, strict=True)) == {**CALLS, "own": "str"}


def test_the_package_says_that_it_is_typed():
    import fourfold

    assert Path(fourfold.__file__).with_name("py.typed").exists()
