from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourfold.errors import FolderError, MissingFileError
from fourfold.store.source import BARE_HUB_NAMES, Source, check_relative, locate

# -- names -------------------------------------------------------------------------------------------------------------


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert locate(str(tmp_path), "org") == str(tmp_path)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="is a file"):
        locate(str(tmp_path / "file"), "org")


@pytest.mark.parametrize("name", ["a/b/c", "/nowhere", "./nowhere", "../nowhere", "~/nowhere", "nowhere/x/"])
def test_what_looks_like_a_path_must_exist(name):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        locate(name, "org")


@pytest.mark.parametrize(
    ("name", "organization", "want"),
    [
        ("all-MiniLM-L6-v2", "sentence-transformers", "sentence-transformers/all-MiniLM-L6-v2"),
        ("someone/model", "sentence-transformers", "someone/model"),
        ("bert-base-uncased", "sentence-transformers", "bert-base-uncased"),
        ("BERT-Base-Uncased", "sentence-transformers", "BERT-Base-Uncased"),
        ("bert-base-uncased-x", "org", "org/bert-base-uncased-x"),
        ("model", None, "model"),
    ],
)
def test_hub_names_get_the_organisation(name, organization, want, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate(name, organization) == want


def test_the_names_without_organisation():
    assert len(BARE_HUB_NAMES) == 68
    some = ["bert-base-uncased", "roberta-base", "gpt2", "t5-small", "distilroberta-base", "xlm-roberta-base", "ctrl"]
    assert BARE_HUB_NAMES.issuperset([*some, "bert-large-cased-whole-word-masking-finetuned-squad"])
    assert all(name == name.lower() for name in BARE_HUB_NAMES)


# -- paths inside ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "1_Pooling", "a/b", "a/./b", "..a", "a..", "a/..b", "0-x_y.z", "with space"])
def test_paths_inside_pass(path):
    assert check_relative(path, "here") == path


@pytest.mark.parametrize(
    "path",
    ["..", "../x", "a/../b", "a/..", "/etc", "//host/share", "C:", "C:/x", "C:\\x", "c:x", "\\x", "..\\x", "a\\..\\b",
     "\\\\host\\share\\x", "a\0b"],
)  # fmt: skip
def test_paths_that_may_leave_are_refused(path):
    with pytest.raises(FolderError, match=r"here: path .* must be a relative path inside"):
        check_relative(path, "here")


parts = st.sampled_from(["..", ".", "a", "b c", "C:", "", "~", "..."])


@given(st.lists(parts, max_size=5), st.sampled_from(["/", "\\", "//"]), st.sampled_from(["", "/", "\\"]))
def test_what_passes_stays_inside_in_both_readings(names, separator, start):
    path = start + separator.join(names)
    try:
        check_relative(path, "here")
    except FolderError:
        return
    for reading, root in ((PurePosixPath, "/model"), (PureWindowsPath, "X:\\model")):
        joined = reading(root, path)
        assert joined.is_relative_to(root)
        assert ".." not in joined.parts


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "sub" / "b.json").write_text("[1]")
    (tmp_path / "sub" / "deep" / "c.json").write_text("{")
    return tmp_path


def test_files_are_found_below_the_subfolder(folder):
    source = Source(str(folder))
    assert source.file("a.json") == folder / "a.json"
    assert source.file("absent") is None
    assert source.file("sub") is None
    assert source.at("sub").file("b.json") == folder / "sub" / "b.json"
    assert source.at("sub").at("deep").file("c.json") == folder / "sub" / "deep" / "c.json"
    assert source.at("") == source


def test_no_file_outside_is_reached(folder):
    with pytest.raises(FolderError):
        Source(str(folder)).at("sub").file("../a.json")


def test_json_is_read_and_an_absent_file_is_none(folder):
    source = Source(str(folder))
    assert source.json("a.json") == {"a": 1}
    assert source.json("absent") is None
    assert source.object("absent") == {}


def test_errors_name_the_file_as_the_user_wrote_the_model(folder):
    source = Source(f"{folder}/")
    with pytest.raises(FolderError, match=r"/sub/deep/c\.json is not valid JSON") as caught:
        source.at("sub").at("deep").json("c.json")
    assert str(folder) + "/sub" in str(caught.value)
    with pytest.raises(FolderError, match=r"/sub/b\.json must hold a JSON object, got list"):
        source.at("sub").object("b.json")
    with pytest.raises(MissingFileError, match=r"/sub/x is missing"):
        source.at("sub").need("x")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[" * 100_000, b"", b"{'a': 1}"])
def test_any_damaged_json_is_a_folder_error(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(FolderError, match=r"x\.json is not valid JSON"):
        Source(str(tmp_path)).json("x.json")


def test_a_local_folder_needs_no_network(folder, no_network):
    source = Source(str(folder))
    assert source.pinned() is source
    assert source.file("absent") is None


# -- the hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """Answer downloads from a dictionary and keep the arguments."""
    import huggingface_hub

    calls = []

    def download(repo, name, **options):
        calls.append((repo, name, options))
        answer = answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            from huggingface_hub.errors import LocalEntryNotFoundError

            raise LocalEntryNotFoundError(f"{name} is not cached")
        return answer

    answers = {}
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    download.answers, download.calls = answers, calls
    return download


def test_a_download_is_told_everything(hub, tmp_path):
    (tmp_path / "x").write_text("1")
    hub.answers["sub/x"] = str(tmp_path / "x")
    source = Source("owner/repo", "main", "secret", "cache", offline=True).at("sub")
    assert source.json("x") == 1
    repo, name, options = hub.calls[0]
    assert (repo, name) == ("owner/repo", "sub/x")
    wanted = {"revision": "main", "token": "secret", "cache_dir": "cache", "local_files_only": True}
    assert wanted.items() <= options.items()


def test_the_cache_folder_falls_back_to_the_environment(hub, monkeypatch):
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", "from-environment")
    assert Source("owner/repo").cache_folder == "from-environment"
    assert Source("owner/repo", cache="given").cache_folder == "given"
    monkeypatch.delenv("SENTENCE_TRANSFORMERS_HOME")
    assert Source("owner/repo").cache_folder is None


def test_a_file_that_is_not_cached_is_absent(hub):
    source = Source("owner/repo")
    assert source.file("x") is None
    with pytest.raises(MissingFileError, match=r"owner/repo/x is missing.*not in the cache") as caught:
        source.need("x")
    assert isinstance(caught.value, OSError)


def test_errors_of_the_network_are_passed_on(hub):
    from huggingface_hub.errors import HfHubHTTPError

    class Response:
        status_code, headers, request, url = 429, {}, None, "url"

    hub.answers["x"] = HfHubHTTPError("slow down", response=Response())
    with pytest.raises(HfHubHTTPError, match="slow down"):
        Source("owner/repo").file("x")


def test_a_branch_is_pinned_to_its_commit(monkeypatch):
    import huggingface_hub

    class Info:
        sha = "f" * 40

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: Info)
    assert Source("owner/repo", "main").pinned().revision == "f" * 40
    assert Source("owner/repo", "0" * 40).pinned().revision == "0" * 40
    assert Source("owner/repo", "main", offline=True).pinned().revision == "main"


def test_an_unreachable_hub_leaves_the_revision(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    def unreachable(*args, **kwargs):
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    assert Source("owner/repo", "main").pinned().revision == "main"


def test_a_missing_revision_is_an_error(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import RevisionNotFoundError

    class Response:
        status_code, headers, request, url = 404, {}, None, "url"

    def missing(*args, **kwargs):
        raise RevisionNotFoundError("no such revision", response=Response())

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", missing)
    with pytest.raises(RevisionNotFoundError):
        Source("owner/repo", "nowhere").pinned()
