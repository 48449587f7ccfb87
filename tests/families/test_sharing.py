"""Push models to a fake hub, and load them back by name."""

import json

import numpy as np
import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from fourfold import SentenceTransformer, SparseEncoder
from fourfold.errors import InputError, MissingFileError
from fourfold.modules import SparseStaticEmbedding
from fourfold.testing import tiny, tiny_folder

# The hub's client hands files to its HTTP library in a way that the library deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TOKEN = "hf_good"
TEXTS = ["a text", "another, longer text"]


@pytest.fixture
def model():
    return tiny("dense", "static")


# -- pushing -----------------------------------------------------------------------------------------------------------


def test_a_pushed_model_is_loaded_by_name(hub, model):
    url = model.push_to_hub("me/tiny", token=TOKEN)
    assert url == f"{hub.url}/me/tiny/commit/{hub.head('me/tiny').sha}"
    assert hub.head("me/tiny").message == "Add new SentenceTransformer model"
    files = hub.files("me/tiny")
    assert {"modules.json", "config_sentence_transformers.json", "model.safetensors", "README.md"} <= set(files)
    assert b'model = SentenceTransformer("me/tiny")' in files["README.md"]
    assert model.model_card_data.model_id == "me/tiny"
    loaded = SentenceTransformer("me/tiny", device="cpu")
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))


def test_a_transformer_is_pushed_and_loaded(hub, tmp_path):
    model = tiny("dense", "bert")
    model.push_to_hub("me/bert", token=TOKEN, private=True)
    with pytest.raises(RepositoryNotFoundError):
        SentenceTransformer("me/bert", device="cpu")
    cache = tmp_path / "own-cache"
    loaded = SentenceTransformer("me/bert", device="cpu", token=TOKEN, cache_folder=str(cache))
    np.testing.assert_allclose(loaded.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    assert (cache / "models--me--bert").is_dir()
    assert not list(hub.cache.glob("models--*/snapshots"))


@pytest.mark.parametrize("kind", ["bert", "qwen3", "static"])
def test_sparse_models_are_pushed_and_loaded(hub, kind):
    model = tiny("sparse", kind, max_active_dims=5)
    model.push_to_hub("me/sparse", token=TOKEN)
    assert hub.head("me/sparse").message == "Add new SparseEncoder model"
    assert b'model = SparseEncoder("me/sparse")' in hub.files("me/sparse")["README.md"]
    loaded = SparseEncoder("me/sparse", device="cpu")
    assert loaded.max_active_dims == 5
    wanted = model.encode(TEXTS).to_dense().numpy()
    np.testing.assert_allclose(loaded.encode(TEXTS).to_dense().numpy(), wanted, atol=1e-5)
    hub.add("sparse-encoder/short", hub.files("me/sparse"))
    short = SparseEncoder("short", device="cpu")
    np.testing.assert_allclose(short.encode(TEXTS).to_dense().numpy(), wanted, atol=1e-5)


def test_a_sparse_model_is_pushed_under_the_older_name_and_reviewed(hub, caplog):
    model = tiny("sparse", "static")
    model.save_to_hub("me/older", token=TOKEN)
    assert hub.head("me/older").message == "Add new model."
    assert "save_to_hub is deprecated" in caplog.text
    model.push_to_hub("me/older", token=TOKEN, exist_ok=True, create_pr=True)
    commit = hub.head("me/older", "refs/pr/1")
    scope: dict = {}
    exec(commit.description.split("```python\n")[1].split("```")[0], scope)
    assert isinstance(scope["model"], SparseEncoder)


def test_weights_of_tokens_are_fetched_by_the_name_of_their_repository(hub):
    tokenizer = tiny("sparse", "static").tokenizer
    hub.add("me/weights", {"idf.json": json.dumps({"the": 2.5, "text": 1.5}).encode()})
    module = SparseStaticEmbedding.from_json("me/weights", tokenizer, frozen=True)
    model = SparseEncoder(modules=[module], device="cpu")
    assert model.decode(model.encode("the short text")) == [("the", 2.5), ("text", 1.5)]
    hub.add("me/other", {"config.json": b"{}"})
    with pytest.raises(InputError, match="me/other"):
        SparseStaticEmbedding.from_json("me/other", tokenizer)
    with pytest.raises(RepositoryNotFoundError):
        SparseStaticEmbedding.from_json("me/none", tokenizer)


def test_pickled_weights_are_pushed_on_request(hub, model):
    model.push_to_hub("me/tiny", token=TOKEN, safe_serialization=False)
    assert "pytorch_model.bin" in hub.files("me/tiny")


def test_a_name_without_an_owner_gets_that_of_the_token(hub, model):
    url = model.push_to_hub("solo", token=TOKEN)
    assert "/someone/solo/commit/" in url
    assert model.model_card_data.model_id == "someone/solo"


@pytest.mark.parametrize("private", [True, False, None])
def test_a_new_repository_is_as_private_as_asked(hub, model, private):
    model.push_to_hub("me/tiny", token=TOKEN, private=private)
    assert hub.repos["me/tiny"].private is bool(private)


def test_a_repository_that_exists_is_a_conflict(hub, model):
    before = hub.add("me/tiny", {"README.md": b"mine"})
    with pytest.raises(HfHubHTTPError, match="409"):
        model.push_to_hub("me/tiny", token=TOKEN)
    assert hub.head("me/tiny") is before
    model.push_to_hub("me/tiny", token=TOKEN, exist_ok=True)
    assert "modules.json" in hub.files("me/tiny")


def test_without_a_token_nothing_is_pushed(hub, model):
    with pytest.raises(HfHubHTTPError, match="401"):
        model.push_to_hub("me/tiny")
    assert not hub.repos


def test_a_card_that_is_there_is_kept_unless_it_is_to_be_replaced(hub, model):
    hub.add("me/tiny", {"README.md": b"mine"})
    model.push_to_hub("me/tiny", token=TOKEN, exist_ok=True)
    assert hub.files("me/tiny")["README.md"] == b"mine"
    model.push_to_hub("me/tiny", token=TOKEN, exist_ok=True, replace_model_card=True)
    assert hub.files("me/tiny")["README.md"].startswith(b"---\ntags:")


def test_the_card_of_the_branch_counts(hub, model):
    hub.add("me/tiny", {"README.md": b"mine"})
    hub.add("me/tiny", {"x": b"1"}, ref="dev")
    model.push_to_hub("me/tiny", token=TOKEN, exist_ok=True, revision="dev")
    assert hub.files("me/tiny", "dev")["README.md"].startswith(b"---\ntags:")


def test_a_card_is_not_written_where_it_is_not_known_whether_there_is_one(hub, model, caplog):
    hub.add("me/tiny", {"README.md": b"mine"})
    hub.fail = lambda asked: 403 if asked.method == "HEAD" else None
    model.push_to_hub("me/tiny", token=TOKEN, exist_ok=True)
    assert "none is written" in caplog.text
    assert hub.files("me/tiny")["README.md"] == b"mine"
    assert "modules.json" in hub.files("me/tiny")


def test_a_branch_is_made_and_written(hub, model):
    hub.add("me/tiny", {"x": b"1"})
    for _ in range(2):
        model.push_to_hub("me/tiny", token=TOKEN, exist_ok=True, revision="dev", commit_message="Try it")
    assert set(hub.files("me/tiny")) == {"x"}
    assert "modules.json" in hub.files("me/tiny", "dev")
    assert hub.head("me/tiny", "dev").message == "Try it"
    assert SentenceTransformer("me/tiny", revision="dev", device="cpu").encode(TEXTS).shape == (2, 32)
    with pytest.raises(HfHubHTTPError):
        SentenceTransformer("me/tiny", revision="nowhere", device="cpu")


def test_a_pull_request_leaves_the_branch_and_tells_the_reviewer_how_to_try_it(hub, model):
    hub.add("me/tiny", {"x": b"1"})
    url = model.push_to_hub("me/tiny", token=TOKEN, create_pr=True)
    assert url == f"{hub.url}/me/tiny/discussions/1"
    assert set(hub.files("me/tiny")) == {"x"}
    commit = hub.head("me/tiny", "refs/pr/1")
    assert "modules.json" in commit.files
    assert repr(model) in commit.description
    assert 'revision=f"refs/pr/{pull_request}"' in commit.description
    snippet = commit.description.split("```python\n")[1].split("```")[0]
    scope: dict = {}
    exec(snippet, scope)
    assert scope["model"].encode(TEXTS).shape == (2, 32)


def test_a_pull_request_has_no_branch_of_its_own(hub, model):
    with pytest.raises(InputError, match="create_pr=True and revision='dev'"):
        model.push_to_hub("me/tiny", token=TOKEN, create_pr=True, revision="dev")
    assert not hub.requests


def test_a_pull_request_without_a_change_answers_with_the_commit(hub, model):
    model.push_to_hub("me/tiny", token=TOKEN)
    url = model.push_to_hub("me/tiny", token=TOKEN, create_pr=True)
    assert url.endswith(hub.head("me/tiny").sha)


def test_a_folder_is_pushed_as_it_is(hub, model, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "README.md").write_text("from the folder")
    (tmp_path / "folder" / "x.json").write_text("{}")
    model.push_to_hub("me/tiny", token=TOKEN, local_model_path=str(tmp_path / "folder"))
    assert hub.files("me/tiny") == {"README.md": b"from the folder", "x.json": b"{}"}


def test_data_sets_reach_the_card(hub, model):
    model.push_to_hub("me/tiny", token=TOKEN, train_datasets=["org/data"])
    assert b"datasets:\n- org/data\n" in hub.files("me/tiny")["README.md"]


def test_the_message_names_another_backend(hub, model):
    model.backend = "onnx"
    model.push_to_hub("me/tiny", token=TOKEN)
    assert hub.head("me/tiny").message == "Add new SentenceTransformer model with an onnx backend"


# -- the older method --------------------------------------------------------------------------------------------------


def test_save_to_hub_pushes_under_its_own_message(hub, model, caplog):
    model.save_to_hub("me/tiny", token=TOKEN)
    assert hub.head("me/tiny").message == "Add new model."
    assert "save_to_hub is deprecated" in caplog.text


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        ((), {"repo_id": "me/a"}, "me/a"),
        ((), {"repo_name": "me/a"}, "me/a"),
        (("a", "me"), {}, "me/a"),
        (("me/a", "me"), {}, "me/a"),
        (("a",), {"organization": "me"}, "me/a"),
        (("a", "me", True), {}, "me/a"),
    ],
)
def test_arguments_of_every_age(hub, model, args, kwargs, name):
    model.save_to_hub(*args, token=TOKEN, **kwargs)
    assert list(hub.repos) == [name]
    assert hub.repos[name].private is (len(args) > 2)


def test_positional_arguments_leave_the_token_out(hub, model, monkeypatch):
    calls = []
    monkeypatch.setattr(model, "push_to_hub", lambda *args, **kwargs: calls.append((args, kwargs)), raising=False)
    model.save_to_hub("me/a", None, True, False, "message", "path", True, True, ["data"])
    [(args, kwargs)] = calls
    assert args == ("me/a",)
    assert kwargs == {
        "token": None, "private": True, "safe_serialization": False, "commit_message": "message",
        "local_model_path": "path", "exist_ok": True, "replace_model_card": True, "train_datasets": ["data"],
    }  # fmt: skip


def test_another_owner_is_a_mistake(hub, model):
    with pytest.raises(ValueError, match="organization='you' is not the owner of repo_id='me/a'"):
        model.save_to_hub("me/a", organization="you", token=TOKEN)
    assert not hub.requests


# -- loading -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(hub):
    return hub.add_folder("me/bert", tiny_folder("dense", "bert")).sha


def test_a_commit_is_loaded_again_without_a_request(hub, published, no_network_later):
    first = SentenceTransformer("me/bert", revision=published, device="cpu")
    assert any(asked.agent and "fourfold" in asked.agent for asked in hub.requests)
    hub.requests.clear()
    no_network_later()
    again = SentenceTransformer("me/bert", revision=published, device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS), first.encode(TEXTS))
    assert hub.requests == []


@pytest.fixture
def no_network_later(request):
    return lambda: request.getfixturevalue("no_network")


def test_a_branch_is_loaded_again_with_one_request(hub, published):
    SentenceTransformer("me/bert", device="cpu")
    hub.requests.clear()
    SentenceTransformer("me/bert", device="cpu")
    assert hub.asked() == ["GET /api/models/me/bert"]


def test_other_files_are_fetched_though_the_commit_was_loaded_before(hub):
    files = {str(p.relative_to(f)): p.read_bytes() for f in [tiny_folder()] for p in f.rglob("*") if p.is_file()}
    other = json.loads(files["config.json"])
    files["other.json"] = json.dumps(other).encode()
    commit = hub.add("me/bert", files).sha
    SentenceTransformer("me/bert", revision=commit, device="cpu")
    hub.requests.clear()
    SentenceTransformer("me/bert", revision=commit, device="cpu", config_kwargs={"use_cache": True})
    assert hub.asked()


@pytest.mark.parametrize("how", ["local_files_only", "offline mode", "refused"])
def test_a_cached_model_loads_without_a_network(hub, published, monkeypatch, no_network_later, how):
    wanted = SentenceTransformer("me/bert", device="cpu").encode(TEXTS)
    hub.stop()
    options = {}
    if how == "local_files_only":
        options["local_files_only"] = True
        no_network_later()
    elif how == "offline mode":
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        no_network_later()
    loaded = SentenceTransformer("me/bert", device="cpu", **options)
    np.testing.assert_array_equal(loaded.encode(TEXTS), wanted)


def test_what_is_not_cached_is_an_error_offline(hub, published):
    with pytest.raises(OSError, match=r"me/bert/config\.json is missing"):
        SentenceTransformer("me/bert", device="cpu", local_files_only=True)


def test_an_unreachable_hub_is_named_in_the_error(hub):
    hub.stop()
    with pytest.raises(
        MissingFileError, match=r"me/bert/config\.json is missing.*the hub could not be reached: Connect"
    ):
        SentenceTransformer("me/bert", device="cpu")


def test_one_environment_variable_points_a_process_at_another_hub(hub, published, tmp_path):
    import os
    import subprocess
    import sys

    code = "from fourfold import SentenceTransformer as S; print(S('me/bert', device='cpu').encode('a text').shape)"
    environment = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    environment |= {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
        "TRANSFORMERS_OFFLINE": "0", "NO_PROXY": "127.0.0.1,localhost",
    }  # fmt: skip
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "(32,)", run.stderr[-2000:]
    assert any(asked.path == "/api/models/me/bert" for asked in hub.requests)
