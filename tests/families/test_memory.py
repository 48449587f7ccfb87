"""Memory grows neither with calls nor with shapes, and a result exists once. Each test in a process of its own."""

import json
import subprocess
import sys

import pytest
from tests.support import thorough

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status"),
]

# What a process that runs torch may gain by chance: allocator arenas, a thread's stack.
SLACK = 8.0

HEAD = """
import json, os, random, sys
os.environ["HF_HUB_OFFLINE"] = "1"

def memory(mark="VmRSS"):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(mark)).split()[1]) / 1024

import torch
torch.set_num_threads(1)
from fourfold.testing import tiny

rng = random.Random(0)
words = ["the", "a", "of", "and", "text", "harbour", "x"]

def texts(most):
    return [" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(rng.randint(1, most))]
"""

CALLS = """
model = tiny("dense", sys.argv[1])
if sys.argv[2] == "bfloat16":
    model.bfloat16()
options = json.loads(sys.argv[3])
seen = []
for i in range(3001):
    model.encode(texts(8), **options)
    if i % 1000 == 0:
        seen.append(memory())
print(json.dumps(seen))
"""

STREAM = """
import itertools
model = tiny("dense", "static")

def source(count):
    return (f"text number {i} of a source that has no end" for i in range(count))

seen = []
for count in (20_000, 40_000, 80_000):
    for vector in model.encode_stream(source(count), window=2048):
        pass
    seen.append(memory())
print(json.dumps(seen))
"""

RESULT = """
import numpy as np
model = tiny("dense", "static")
many = ["a text"] * 250_000
model.encode(many[:70_000], precision=sys.argv[1])
before = memory()
open("/proc/self/clear_refs", "w").write("5")  # begin a new peak
result = model.encode(many, precision=sys.argv[1])
print(json.dumps([before, memory("VmHWM"), result.nbytes / 2**20]))
"""


def run(code, *arguments):
    done = subprocess.run([sys.executable, "-c", HEAD + code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("architecture", "dtype", "options"),
    [
        ("bert", "float32", {}),
        pytest.param("mpnet", "float32", {}, marks=thorough),
        pytest.param("bert", "bfloat16", {"convert_to_tensor": True}, marks=thorough),
        pytest.param("bert", "float32", {"output_value": "token_embeddings"}, marks=thorough),
    ],
)
def test_thousands_of_calls_of_ever_new_shapes(architecture, dtype, options):
    seen = run(CALLS, architecture, dtype, json.dumps(options))
    assert seen[-1] - seen[1] < SLACK, seen


def test_a_stream_takes_no_more_for_being_longer():
    seen = run(STREAM)
    assert seen[-1] - seen[0] < SLACK, seen


@pytest.mark.parametrize(("precision", "copies"), [("float32", 1.0), pytest.param("ubinary", 1.0, marks=thorough)])
def test_a_result_exists_once(precision, copies):
    before, peak, size = run(RESULT, precision)
    # 16 MB for the tokens of the two windows that are under way, and for what the tokenizer holds of a slice of one.
    assert peak - before < copies * size + 16, (before, peak, size)


def test_one_byte_results_are_made_beside_the_vectors_not_through_copies_of_them():
    before, peak, size = run(RESULT, "int8")
    assert peak - before < 4 * size + size + 16, (before, peak, size)
