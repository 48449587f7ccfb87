"""``fourfold rerank``: sort documents by how well they answer a query."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Annotated

from fourfold.cli._options import Argument, Option
from fourfold.cli._table import fit
from fourfold.cli._texts import texts_of

USUAL = "cross-encoder/ms-marco-MiniLM-L6-v2"


def rerank(
    query: Annotated[str, Argument(help="what the documents should answer")],
    file: Annotated[str, Argument(help="a file of documents: one a line, or .jsonl, .csv, .tsv; or one text")],
    *,
    model: Annotated[
        str, Option("--model", "-m", help=f"cross encoder, a folder or hub name; default: {USUAL}")
    ] = USUAL,
    top_k: Annotated[int | None, Option("--top-k", "-k", min=1, help="show at most this many; default: all")] = None,
    passages: Annotated[
        bool, Option("--passages", help="score long documents by their best passage, not their beginning")
    ] = False,
    as_json: Annotated[
        bool, Option("--json", help="print an array of objects: corpus_id, score, text (start, stop)")
    ] = False,
) -> None:
    """Read the query together with each document, and sort the documents by the model's score.

    Examples:
      fourfold rerank "how do I undo a commit?" answers.txt -k 3
      fourfold rerank "undo a commit" found.jsonl --model BAAI/bge-reranker-v2-m3 --json
    """
    documents = texts_of(file)

    import fourfold

    scorer = fourfold.load(model, family="cross")
    rank = scorer.rank_passages if passages else scorer.rank
    hits = rank(query, documents, top_k=top_k, return_documents=True, show_progress_bar=sys.stderr.isatty())
    if as_json:
        sys.stdout.write(json.dumps(hits, ensure_ascii=False, indent=2) + "\n")
        return
    room = shutil.get_terminal_size((100, 24)).columns - 10
    sys.stdout.writelines(
        f"{hit['score']:8.4f}  {fit(hit['text'][hit.get('start') : hit.get('stop')], room).rstrip()}\n" for hit in hits
    )
