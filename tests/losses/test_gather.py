"""In-batch negatives of two processes: together they compute what one process computes of both batches."""

import json
import subprocess
import sys

import pytest
from tests.support import thorough
from tests.tolerances import GRADIENT

CODE = """
import json, os, sys
import torch
from torch import distributed, multiprocessing

COLUMNS = [
    ["the query", "a text", "x", "the world"],
    ["the long text of the world " * 3, "a b", "short", "y"],
    ["n", "the negative text", "of the", "a a a"],
]

def make(name, model, gather):
    from fourfold import losses
    options = {"directions": ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")}
    if "GIST" in name:
        options = {"guide": model, "temperature": 0.2}
    return getattr(losses, name)(model, gather_across_devices=gather, **options)

def run(name, rows, gather):
    from fourfold import SentenceTransformer
    model = SentenceTransformer(sys.argv[1] + "/model", device="cpu").eval()
    columns = COLUMNS[:2] if name == "GISTEmbedLoss" else COLUMNS
    loss = make(name, model, gather)
    value = loss([model.batch_features(column[rows]) for column in columns], None)
    value.backward()
    return value, {key: p.grad for key, p in model.named_parameters() if p.grad is not None}

def work(rank, names, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for name in names:
        value, grads = run(name, slice(2 * rank, 2 * rank + 2), True)
        # as distributed training does: the mean over the processes
        for part in [value.detach(), *grads.values()]:
            distributed.all_reduce(part)
            part /= 2
        if rank == 0:
            torch.save((value.detach(), grads), f"{folder}/{name}.pt")
    distributed.destroy_process_group()

if __name__ == "__main__":
    from fourfold.testing import tiny
    folder, *names = sys.argv[1:]
    tiny().save(folder + "/model")
    multiprocessing.spawn(work, (names, folder), nprocs=2)
    found = {}
    for name in names:
        value, grads = torch.load(f"{folder}/{name}.pt")
        whole, wanted = run(name, slice(None), False)
        scale = max(float(grad.abs().max()) for grad in wanted.values())
        worst = max(float((grads[key] - wanted[key]).abs().max()) for key in wanted) / scale
        found[name] = [value.item(), whole.item(), worst]
    print(json.dumps(found))
"""


NAMES = ("MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gathered")
    (folder / "run.py").write_text(CODE)
    command = [sys.executable, str(folder / "run.py"), str(folder), *NAMES]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@thorough
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo over a file")
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_are_one_batch(found, name):
    value, whole, worst = found[name]
    assert value == pytest.approx(whole, rel=GRADIENT)
    assert worst < 10 * GRADIENT
