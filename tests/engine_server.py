"""Elasticsearch, OpenSearch or Qdrant in one process: the parts of their HTTP interfaces that sparse search takes.

Indexes live in memory. Documents can be found after a refresh, features must be positive numbers whose names have no
dot (Elasticsearch), a query is what each of the two servers takes, and what is not right is refused as they refuse it.
``server.requests`` holds what was asked for.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Refused(Exception):
    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.kind = status, kind


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    lines: list[Any]


@dataclass
class Index:
    mappings: dict[str, Any]
    waiting: dict[str, dict[str, Any]] = field(default_factory=dict)
    docs: dict[str, dict[str, Any]] = field(default_factory=dict)


class EngineServer:
    """The server; use it as a context manager. ``kind`` is ``elasticsearch`` or ``opensearch``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.indexes: dict[str, Index] = {}
        self.requests: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"engine": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> EngineServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, lines: list[Any]) -> dict[str, Any]:
        parts = path.split("?")[0].strip("/").split("/")
        if parts == ["_bulk"] and method in ("PUT", "POST"):
            return self.bulk(lines)
        if len(parts) == 1 and method == "PUT":
            return self.create(parts[0], *lines)
        if len(parts) == 2 and parts[1] in ("_refresh", "_search") and method == "POST":
            if parts[0] not in self.indexes:
                raise Refused(404, "index_not_found_exception", f"no such index [{parts[0]}]")
            index = self.indexes[parts[0]]
            return self.refresh(index) if parts[1] == "_refresh" else self.search(parts[0], index, *lines)
        raise Refused(405, "illegal_argument_exception", f"no handler for {method} {path}")

    def create(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name in self.indexes:
            raise Refused(400, "resource_already_exists_exception", f"index [{name}] already exists")
        if name != name.lower():
            raise Refused(400, "invalid_index_name_exception", f"Invalid index name [{name}], must be lowercase")
        self.indexes[name] = Index(body["mappings"]["properties"])
        return {"acknowledged": True, "shards_acknowledged": True, "index": name}

    def bulk(self, lines: list[Any]) -> dict[str, Any]:
        items = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            meta = action["index"]
            item = {"_index": meta["_index"], "_id": meta["_id"], "status": 201, "result": "created"}
            try:
                index = self.indexes[meta["_index"]]
                for name, mapping in index.mappings.items():
                    if mapping["type"] == "rank_features":
                        self.check(source[name])
                index.waiting[meta["_id"]] = source
            except Refused as refused:
                item |= {"status": refused.status, "error": {"type": refused.kind, "reason": str(refused)}}
            items.append({"index": item})
        return {"took": 1, "errors": any("error" in item["index"] for item in items), "items": items}

    def check(self, features: dict[str, float]) -> None:
        for name, value in features.items():
            if "." in name and self.kind == "elasticsearch":
                raise Refused(400, "document_parsing_exception", f"features do not support dots, but found [{name}]")
            if not value >= 1.17549435e-38:
                raise Refused(
                    400, "document_parsing_exception", f"[{name}] must be a positive normal float, is {value}"
                )

    def refresh(self, index: Index) -> dict[str, Any]:
        index.docs |= index.waiting
        index.waiting = {}
        return {"_shards": {"total": 1, "successful": 1, "failed": 0}}

    def search(self, name: str, index: Index, body: dict[str, Any]) -> dict[str, Any]:
        [(kind, query)] = body["query"].items()
        scores = {"bool": self.ranked, "neural_sparse": self.products}[kind](index, query)
        best = sorted(scores.items(), key=lambda pair: -pair[1])[: body["size"]]
        hits = []
        for number, score in best:
            hit = {"_index": name, "_id": number, "_score": score}
            hits.append(hit if body.get("_source") is False else hit | {"_source": index.docs[number]})
        return {
            "took": 1,
            "timed_out": False,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": {
                "total": {"value": len(scores), "relation": "eq"},
                "max_score": best[0][1] if best else None,
                "hits": hits,
            },
        }

    def ranked(self, index: Index, query: dict[str, Any]) -> dict[str, float]:
        """Sum over clauses of boost * value / (value + pivot), the pivot a feature's geometric mean in the index."""
        assert query["minimum_should_match"] == 1
        assert self.kind == "elasticsearch"
        if not query["should"]:
            return dict.fromkeys(index.docs, 1.0)
        scores: dict[str, float] = {}
        for clause in query["should"]:
            asked = clause["rank_feature"]
            assert asked["saturation"] == {}
            if asked["boost"] < 0:
                raise Refused(400, "illegal_argument_exception", "negative [boost] are not allowed in [rank_feature]")
            family, _, feature = asked["field"].partition(".")
            if index.mappings[family]["type"] != "rank_features":
                raise Refused(400, "illegal_argument_exception", "[rank_feature] query only works on rank_features")
            values = {key: doc[family][feature] for key, doc in index.docs.items() if feature in doc[family]}
            pivot = math.exp(sum(map(math.log, values.values())) / max(len(values), 1))
            for key, value in values.items():
                scores[key] = scores.get(key, 0.0) + asked["boost"] * value / (value + pivot)
        return scores

    def products(self, index: Index, query: dict[str, Any]) -> dict[str, float]:
        assert self.kind == "opensearch"
        [(family, asked)] = query.items()
        tokens = asked["query_tokens"]
        if not tokens or min(tokens.values()) <= 0:
            raise Refused(400, "illegal_argument_exception", "query_tokens must have positive weights")
        scores: dict[str, float] = {}
        for key, doc in index.docs.items():
            met = tokens.keys() & doc[family].keys()
            if met:
                scores[key] = sum(tokens[token] * doc[family][token] for token in met)
        return scores


class QdrantServer(EngineServer):
    """Qdrant at its slowest: points of a request that does not wait for them are not taken in before the search."""

    def __init__(self) -> None:
        super().__init__("qdrant")
        self.points: dict[str, dict[int, dict[int, float]]] = {}

    def answer(self, method: str, path: str, lines: list[Any]) -> dict[str, Any]:
        path, _, options = path.partition("?")
        parts = path.strip("/").split("/")
        if parts == [""]:
            return {"title": "qdrant", "version": importlib.metadata.version("qdrant-client")}
        name = parts[1]
        if method == "PUT" and len(parts) == 2:
            assert list(lines[0]["sparse_vectors"]) == ["text"]
            self.points[name] = {}
            return {"result": True, "status": "ok", "time": 0.0}
        if (method, parts[2:]) == ("PUT", ["points"]):
            if options == "wait=true":
                for point in lines[0]["points"]:
                    self.points[name][point["id"]] = self.entries(point["vector"]["text"])
            return {"result": {"operation_id": 0, "status": "completed"}, "status": "ok", "time": 0.0}
        assert (method, parts[2:]) == ("POST", ["points", "query", "batch"])
        found = [{"points": self.nearest(name, asked)} for asked in lines[0]["searches"]]
        return {"result": found, "status": "ok", "time": 0.0}

    def entries(self, vector: dict[str, Any]) -> dict[int, float]:
        return dict(zip(vector["indices"], vector["values"], strict=True))

    def nearest(self, name: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        query = self.entries(asked["query"]["nearest"])
        assert asked["using"] == "text"
        scores = {}
        for number, row in self.points[name].items():
            if met := query.keys() & row.keys():
                scores[number] = sum(query[term] * row[term] for term in met)
        best = sorted(scores, key=lambda number: -scores[number])[: asked["limit"]]
        return [{"id": number, "version": 0, "score": scores[number]} for number in best]


class Handler(BaseHTTPRequestHandler):
    engine: EngineServer
    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        lines = [json.loads(line) for line in text.splitlines() if line]
        self.engine.requests.append(Request(self.command, self.path, lines))
        try:
            status, body = 200, self.engine.answer(self.command, self.path, lines)
        except Refused as refused:
            cause = {"type": refused.kind, "reason": str(refused)}
            status, body = refused.status, {"error": {"root_cause": [cause], **cause}, "status": refused.status}
        content = json.dumps(body).encode()
        wanted = self.headers.get("Accept") or ""
        self.send_response(status)
        if self.engine.kind == "elasticsearch":
            self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", wanted if "elasticsearch" in wanted else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = respond

    def log_message(self, *details: object) -> None:
        pass
