from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourfold.errors import FolderError, MissingFileError
from fourfold.store.source import (
    BARE_HUB_NAMES,
    Source,
    check_relative,
    is_sentence_transformer_model,
    load_dir_path,
    load_file_path,
    locate,
)

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

FILES = {"modules.json": b"[]", "sub/a.json": b"{}", "sub/deep/b.json": b"1", "other/c.json": b"2", "big.bin": b"lfs"}


@pytest.fixture
def commit(hub):
    return hub.add("me/model", FILES).sha


def test_a_file_is_fetched_once_and_an_absent_one_asked_for_once(hub, commit):
    source = Source("me/model").pinned()
    assert source.revision == commit
    assert source.file("big.bin").read_bytes() == b"lfs"
    assert source.at("sub").json("a.json") == {}
    assert source.file("absent") is None
    hub.requests.clear()
    assert source.file("big.bin").read_bytes() == b"lfs"
    assert source.file("absent") is None
    assert hub.asked() == []


def test_the_token_reaches_the_hub_and_not_the_place_of_big_files(hub):
    hub.add("me/private", FILES, private=True)
    source = Source("me/private", token="hf_good").pinned()
    assert source.file("big.bin") is not None
    assert {asked.token for asked in hub.requests if asked.path.startswith(("/api/models", "/me"))} == {"hf_good"}
    assert {asked.token for asked in hub.requests if asked.path.startswith("/cdn")} == {None}
    assert any("fourfold/" in asked.agent or "fourfold" in asked.agent for asked in hub.requests)


def test_a_branch_and_a_tag_are_resolved_once(hub, commit):
    other = hub.add("me/model", {"modules.json": b"[1]"}, ref="v2")
    source = Source("me/model", "v2").pinned()
    assert source.revision == other.sha
    assert source.json("modules.json") == [1]
    assert Source("me/model").pinned().json("modules.json") == []
    assert len([asked for asked in hub.asked() if "/api/models" in asked]) == 2


def test_all_files_are_of_the_commit_that_was_resolved(hub, commit):
    source = Source("me/model").pinned()
    hub.add("me/model", {"modules.json": b"[2]", "new.json": b"1"})
    assert source.json("modules.json") == []
    assert source.file("new.json") is None
    assert Source("me/model").pinned().json("modules.json") == [2]


def test_a_commit_needs_no_resolving(hub, commit):
    assert Source("me/model", commit).pinned().revision == commit
    assert hub.asked() == []


def test_what_was_fetched_by_branch_is_found_offline_by_branch(hub, commit, no_network_later):
    assert Source("me/model").pinned().json("modules.json") == []
    no_network_later()
    offline = Source("me/model", offline=True).pinned()
    assert offline.json("modules.json") == []
    assert offline.file("sub/a.json") is None


@pytest.fixture
def no_network_later(request):
    return lambda: request.getfixturevalue("no_network")


def test_offline_mode_uses_the_cache_alone(hub, commit, monkeypatch, no_network_later):
    from huggingface_hub import constants

    Source("me/model").pinned().need("modules.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    no_network_later()
    assert Source("me/model").pinned().json("modules.json") == []
    assert Source("me/model").json("modules.json") == []
    with pytest.raises(MissingFileError, match=r"me/model/absent is missing.*offline mode is on") as caught:
        Source("me/model").pinned().need("absent")
    assert isinstance(caught.value, OSError)


def test_an_unreachable_hub_costs_one_request(hub, commit, monkeypatch, caplog):
    import huggingface_hub

    Source("me/model").pinned().need("modules.json")
    hub.stop()
    tries = []
    original = huggingface_hub.HfApi.model_info
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda *a, **k: (tries.append(k["timeout"]), original(*a, **k))[1]
    )
    source = Source("me/model").pinned()
    assert (source.revision, source.offline) == (commit, True)
    assert len(tries) == 1
    assert tries[0] is not None, "without a limit a hub that does not answer is waited for forever"
    assert "could not be reached" in caplog.text
    assert source.json("modules.json") == []
    assert source.file("sub/a.json") is None


def test_an_unreachable_hub_and_an_empty_cache_say_so(hub):
    hub.stop()
    with pytest.raises(MissingFileError, match=r"me/model/config.json is missing.*hub could not be reached: Connect"):
        Source("me/model").pinned().need("config.json")


def test_a_hub_that_is_down_is_as_one_that_cannot_be_reached(hub, commit):
    Source("me/model").pinned().need("modules.json")
    hub.fail = lambda asked: 503
    source = Source("me/model").pinned()
    assert (source.revision, source.offline) == (commit, True)


def test_a_missing_revision_is_an_error(hub, commit):
    from huggingface_hub.errors import RevisionNotFoundError

    with pytest.raises(RevisionNotFoundError):
        Source("me/model", "nowhere").pinned()


@pytest.mark.parametrize("token", [None, "hf_good"])
def test_a_missing_repository_is_an_error_and_not_an_empty_one(hub, token):
    from huggingface_hub.errors import RepositoryNotFoundError

    source = Source("me/nothing", token=token)
    for ask in (source.pinned, lambda: source.file("modules.json"), source.folder):
        with pytest.raises(RepositoryNotFoundError):
            ask()


def test_a_repository_that_became_private_is_read_from_the_cache(hub, commit, caplog):
    Source("me/model").pinned().need("modules.json")
    hub.repos["me/model"].private = True
    source = Source("me/model").pinned()
    assert (source.revision, source.offline) == (commit, True)
    assert source.json("modules.json") == []
    assert "the token may not read it" in caplog.text
    with pytest.raises(MissingFileError, match=r"absent is missing.*the token may not read it"):
        source.need("absent")


def test_another_failure_is_logged_and_leaves_the_revision(hub, commit, caplog):
    hub.fail = lambda asked: 403 if asked.path.startswith("/api/models") else None
    source = Source("me/model", "main").pinned()
    assert (source.revision, source.offline) == ("main", False)
    assert "the commit of me/model is not known" in caplog.text
    assert source.json("modules.json") == []


def test_a_wrong_token_is_an_error_and_not_an_absent_file(hub, commit):
    from huggingface_hub.errors import HfHubHTTPError

    source = Source("me/model", token="hf_wrong").pinned()
    with pytest.raises(HfHubHTTPError, match="401"):
        source.file("modules.json")


def test_a_refusal_is_an_error_and_not_an_absent_file(hub, commit):
    from huggingface_hub.errors import HfHubHTTPError

    hub.fail = lambda asked: 403
    with pytest.raises(HfHubHTTPError, match="403"):
        Source("me/model", commit).file("modules.json")


def test_a_name_that_no_repository_can_have_has_no_files(hub):
    source = Source("not a--name!").pinned()
    assert source.file("modules.json") is None
    assert source.folder() is None
    assert hub.asked() == []


def test_the_cache_folder(hub, commit, tmp_path, monkeypatch):
    assert tmp_path / "given" in Source("me/model", cache=str(tmp_path / "given")).need("modules.json").parents
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "home"))
    assert tmp_path / "home" in Source("me/model").need("modules.json").parents
    assert tmp_path / "given" in Source("me/model", cache=str(tmp_path / "given")).need("modules.json").parents
    monkeypatch.delenv("SENTENCE_TRANSFORMERS_HOME")
    assert hub.cache in Source("me/model").need("modules.json").parents


# -- whole folders -----------------------------------------------------------------------------------------------------


def test_a_folder_comes_with_all_below_it_and_nothing_else(hub, commit):
    found = Source("me/model").pinned().at("sub").folder()
    assert (found / "a.json").is_file()
    assert (found / "deep" / "b.json").is_file()
    assert not (found.parent / "other").exists()
    assert Source("me/model").pinned().at("nothing").folder() is None
    with pytest.raises(MissingFileError, match="me/model/nothing is missing"):
        load_dir_path("me/model", "nothing")
    everything = Source("me/model", commit).folder()
    assert (everything / "other" / "c.json").is_file()


def test_a_folder_is_named_and_no_pattern(hub):
    hub.add("me/odd", {"a[bc]/x.json": b"1", "ab/y.json": b"2"})
    found = Source("me/odd").at("a[bc]").folder()
    assert [file.name for file in found.iterdir()] == ["x.json"]
    assert not (found.parent / "ab").exists()


def test_a_folder_is_found_offline_and_with_the_hub_down(hub, commit):
    Source("me/model").pinned().at("sub").folder()
    hub.stop()
    assert (Source("me/model", offline=True).at("sub").folder() / "a.json").is_file()
    assert (Source("me/model").at("sub").folder() / "a.json").is_file()
    assert Source("me/other", offline=True).folder() is None


def test_a_note_reaches_the_message_wherever_a_file_was_missed():
    source = Source("me/model", note="no network")
    with pytest.raises(MissingFileError, match=r"^x is missing \(no network\)$"), source.explained():
        raise MissingFileError("x is missing")
    with pytest.raises(MissingFileError, match=r"^x \(no network\)$"), source.explained():
        raise MissingFileError("x (no network)")


# -- loads that were complete ------------------------------------------------------------------------------------------


def test_a_settled_purpose_needs_no_network(hub, commit):
    source = Source("me/model").pinned("encode")
    assert not source.offline
    source.settle("encode")
    assert Source("me/model").pinned("encode").offline
    assert not Source("me/model").pinned("another").offline
    assert not Source("me/model").pinned().offline
    hub.add("me/model", {"modules.json": b"[3]"})
    assert not Source("me/model").pinned("encode").offline


# -- functions ---------------------------------------------------------------------------------------------------------


def test_functions_for_files_and_folders(hub, commit, folder):
    assert is_sentence_transformer_model("me/model")
    assert not is_sentence_transformer_model(str(folder))
    assert Path(load_file_path("me/model", "a.json", "sub")).read_bytes() == b"{}"
    assert load_file_path("me/model", "absent") is None
    assert load_file_path(str(folder), "b.json", subfolder="sub") == str(folder / "sub" / "b.json")
    assert load_file_path(str(folder), "absent") is None
    assert Path(load_dir_path("me/model", "sub"), "deep", "b.json").is_file()
    assert load_dir_path(str(folder), "sub") == str(folder / "sub")
    assert load_dir_path(str(folder), "absent") is None
    assert load_dir_path(str(folder), ".") == str(folder)
    for name in ("me/model", str(folder)):
        with pytest.raises(ValueError, match="must be a relative path"):
            load_file_path(name, "../x")
        with pytest.raises(ValueError, match="must be a relative path"):
            load_dir_path(name, "a/../../x")
