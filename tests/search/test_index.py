from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fourfold.errors import InputError, SearchIndexError
from fourfold.search import Hit, Index, update
from fourfold.search.arrays import ArrayFile
from fourfold.search.catalog import NAME, Catalog
from fourfold.search.query import top

TEXTS = {
    "birds.txt": "The heron waits at the river.\n\nOwls hunt at night.",
    "sub/metal.md": "# Metal\n\nIron rusts in water.\n\n## Gold\n\nGold does not rust.",
    "sub/code.py": 'def fold(paper):\n    """Fold the paper twice."""\n    return paper\n',
}


def fill(root, texts):
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        os.utime(root / name, ns=(10**18, 10**18 + len(text)))


@pytest.fixture
def root(tmp_path):
    fill(tmp_path / "data", TEXTS)
    return tmp_path / "data"


def everything(index, question="iron water paper owls gold"):
    return {mode: index.search(question, top_k=100, mode=mode) for mode in ("lexical", "dense", "hybrid")}


def test_finds_with_path_line_and_heading(root, encoder):
    index = Index.open(root, model=encoder)
    assert index.update().added == 3
    hits = index.search("gold rust", mode="lexical")
    assert hits[0] == Hit("sub/metal.md", 7, hits[0].score, "Gold does not rust.", "Metal > Gold")
    assert [hit.path for hit in index.search("fold the paper", top_k=1)] == ["sub/code.py"]
    scores = [hit.score for hit in index.search("gold rust", top_k=100)]
    assert scores == sorted(scores, reverse=True)
    assert len(index) == len(scores) == 4


def test_second_update_reads_and_writes_nothing(root, encoder):
    Index.open(root, model=encoder).update()
    before, encoded = (root / ".fourfold" / NAME).stat(), len(encoder.encoded)
    assert not Index.open(root, model=encoder).update()
    after = (root / ".fourfold" / NAME).stat()
    assert (before.st_mtime_ns, before.st_ino, encoded) == (after.st_mtime_ns, after.st_ino, len(encoder.encoded))


def test_a_touched_file_is_not_encoded_again(root, encoder):
    index = Index.open(root, model=encoder)
    index.update()
    encoded = len(encoder.encoded)
    os.utime(root / "birds.txt")
    assert not index.update()
    assert len(encoder.encoded) == encoded


def test_a_moved_file_keeps_its_vectors(root, encoder):
    index = Index.open(root, model=encoder)
    index.update()
    encoded = len(encoder.encoded)
    (root / "birds.txt").rename(root / "sub" / "animals.txt")
    index.update()
    assert len(encoder.encoded) == encoded
    assert index.search("owls", mode="lexical")[0].path == "sub/animals.txt"


def test_deleted_and_changed_files(root, encoder):
    index = Index.open(root, model=encoder)
    index.update()
    (root / "birds.txt").unlink()
    fill(root, {"sub/metal.md": "Copper conducts."})
    changes = index.update()
    assert (changes.added, changes.changed, changes.removed) == (0, 1, 1)
    assert index.search("owls iron", mode="lexical") == []
    assert index.search("copper", mode="lexical")[0].line == 1


def test_same_size_and_time_but_young_is_compared_by_content(root, encoder):
    (root / "birds.txt").write_text("aaaa first")
    index = Index.open(root, model=encoder)
    index.update()
    status = (root / "birds.txt").stat()
    (root / "birds.txt").write_text("bbbb other")
    os.utime(root / "birds.txt", ns=(status.st_mtime_ns, status.st_mtime_ns))
    index.update()
    assert index.search("other", mode="lexical") != []


names = st.sampled_from(["a.txt", "b.txt", "c/d.txt", "c/e.md"])
contents = st.lists(st.sampled_from(["iron", "water", "owl night", "gold rust\n\n# h", "paper"]), max_size=4).map(
    "\n\n".join
)
steps = st.lists(st.dictionaries(names, st.none() | contents, max_size=4), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_updating_equals_rebuilding(tmp_path, encoder, steps):
    shutil.rmtree(tmp_path)
    root = tmp_path / "data"
    root.mkdir(parents=True)
    index = Index.open(root, model=encoder)
    for number, step in enumerate(steps):
        for name, text in step.items():
            if text is None:
                (root / name).unlink(missing_ok=True)
            else:
                fill(root, {name: text + "\n" * number})
        index.update()
    fresh = Index(root, model=encoder, folder=tmp_path / "fresh")
    fresh.update()
    assert everything(index) == everything(fresh)
    assert index.snapshot.statistics == fresh.snapshot.statistics


def test_segments_are_merged_and_their_files_removed(root, encoder, other_encoder):
    index = Index.open(root, model=encoder)
    for number in range(20):
        fill(root, {f"n{number}.txt": f"number{number} iron"})
        index.update()
    assert len(index.snapshot.parts) < 8
    Index.open(root, model=other_encoder).update()
    for number in range(20, 30):
        fill(root, {f"n{number}.txt": f"number{number} iron"})
        Index.open(root, model=other_encoder).update()
        index.update()
    named = set(index.snapshot.catalog.segments)
    assert {f.name.partition(".")[0] for f in index.folder.glob("*-*")} == named
    fresh = Index(root, model=encoder, folder=root.parent / "fresh")
    fresh.update()
    assert everything(index) == everything(fresh)
    assert index.search("number7", mode="lexical")[0].path == "n7.txt"


def test_one_large_file_over_several_segments(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(update, "_SEGMENT_CHARACTERS", 2000)
    fill(tmp_path, {"long.jsonl": "".join(f'"row {i} has value{i}"\n' for i in range(500)), "short.txt": "iron"})
    index = Index.open(tmp_path, model=encoder)
    index.update()
    assert len(index) == 501
    assert [h.line for h in index.search("value321", mode="lexical")] == [322]
    assert index.search("row 321 has value321", mode="dense", top_k=1)[0].line == 322


def test_vectors_of_two_models_lie_side_by_side(root, encoder, other_encoder):
    one, two = Index.open(root, model=encoder), Index.open(root, model=other_encoder)
    one.update()
    with pytest.raises(SearchIndexError, match="lacks this model's vectors"):
        two.search("iron")
    two.update()
    encoded = len(encoder.encoded)
    one.update()
    assert len(encoder.encoded) == encoded
    assert one.search("iron")[0].path == two.search("iron")[0].path == "sub/metal.md"


def test_lexical_search_needs_no_model(root):
    index = Index.open(root, model="/no/such/model")
    index.update(vectors=False)
    assert index.search("owls", mode="lexical")[0].path == "birds.txt"


def test_a_file_is_indexed_in_its_folder(root, encoder):
    index = Index.open(root / "sub" / "metal.md", model=encoder)
    index.update()
    assert (root / "sub" / ".fourfold").is_dir()
    assert {hit.path for hit in index.search("iron owls paper", top_k=9)} == {"metal.md"}
    whole = Index.open(root / "sub", model=encoder)
    assert whole.update().added == 1
    assert {hit.path for hit in index.search("iron paper", top_k=9)} == {"metal.md"}
    assert {hit.path for hit in whole.search("iron paper", top_k=9)} == {"metal.md", "code.py"}


def test_put_texts_stay_until_removed(root, encoder):
    index = Index.open(root, model=encoder)
    index.put("notes", ["silver bell", "copper bell"])
    index.update()
    hit = index.search("copper bell", top_k=1)[0]
    assert (hit.path, hit.line, hit.text) == ("notes", 2, "copper bell")
    index.put("notes", ["tin bell"])
    assert index.search("copper", mode="lexical") == []
    index.remove("notes")
    assert index.search("bell", mode="lexical") == []
    with pytest.raises(InputError, match="nothing named 'notes'"):
        index.remove("notes")


def test_skipped_files_are_told_and_do_not_stop_the_others(root, encoder):
    (root / "image.dat").write_bytes(b"\0\1")
    (root / "broken.pdf").write_bytes(b"nothing")
    (root / "photo.png").write_bytes(b"text though")
    (root / ".hidden").write_text("secret")
    (root / "node_modules").mkdir()
    (root / "node_modules" / "x.txt").write_text("module")
    (root / "env").mkdir()
    (root / "env" / "pyvenv.cfg").write_text("")
    (root / "loop").symlink_to(root)
    index = Index.open(root, model=encoder)
    assert set(index.update().skipped) == {"image.dat", "broken.pdf"}
    assert not index.update().skipped
    assert set(index.snapshot.catalog.states) == {*TEXTS, "image.dat", "broken.pdf"}


def test_empty_folder_and_empty_index(tmp_path, encoder):
    index = Index.open(tmp_path, model=encoder)
    assert index.search("anything") == []
    assert not index.update()
    assert not (tmp_path / ".fourfold").exists()


def test_wrong_arguments(root, encoder):
    index = Index.open(root, model=encoder)
    index.update()
    with pytest.raises(InputError, match="question is empty"):
        index.search("  ")
    with pytest.raises(InputError, match="top_k must be at least 1; got 0"):
        index.search("x", top_k=0)
    with pytest.raises(InputError, match="Did you mean 'lexical'"):
        index.search("x", mode="lexicl")
    with pytest.raises(InputError, match="does not exist"):
        Index.open(root / "none")
    with pytest.raises(InputError, match=r"object cannot be searched with; .* what fourfold\.load makes of it"):
        Index.open(root, model=object()).search("x")


def test_a_folder_that_cannot_be_written_to(root, encoder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    index = Index.open(root, model=encoder)
    index.update()
    assert not (root / ".fourfold").exists()
    assert index.search("owls", top_k=1)[0].path == "birds.txt"
    assert Index.open(root).folder == index.folder


def test_something_in_the_way_of_the_index(root, encoder):
    (root / ".fourfold").write_text("a file")
    with pytest.raises(SearchIndexError, match="in the way"):
        Index.open(root, model=encoder).update()


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100, b"\x10" + bytes(7) + b"{}" * 8, None])
@pytest.mark.parametrize("victim", ["catalog", "*.segment", "*.vectors"])
def test_damage_is_one_clear_error_and_mended_by_clear(root, encoder, victim, damage):
    Index.open(root, model=encoder).update()
    file = next((root / ".fourfold").glob(victim))
    if damage is not None:
        file.write_bytes(damage)
    elif victim == "*.segment":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-30])
    index = Index.open(root, model=encoder)
    with pytest.raises(SearchIndexError, match="--rebuild"):
        index.search("owls")
    index.clear()
    index.update()
    assert index.search("owls", top_k=1)[0].path == "birds.txt"


def test_an_index_of_a_newer_version_is_left_alone(root, encoder, monkeypatch):
    Index.open(root, model=encoder).update()
    monkeypatch.setattr("fourfold.search.catalog.FORMAT", 0)
    with pytest.raises(SearchIndexError, match="newer version"):
        Index.open(root, model=encoder).update()
    monkeypatch.setattr("fourfold.search.catalog.FORMAT", 9)
    index = Index.open(root, model=encoder)
    assert index.update().added == 3
    assert len(index) == 4


def test_a_reader_goes_on_with_what_it_opened(root, encoder):
    reader = Index.open(root, model=encoder)
    reader.update()
    before = everything(reader)
    fill(root, {"birds.txt": "nothing"})
    Index.open(root, model=encoder).clear()
    assert {mode: reader.search("owls", mode=mode)[0].path for mode in ("lexical",)} == {"lexical": "birds.txt"}
    assert before["lexical"]


def test_the_files_are_safetensors(root, encoder):
    from safetensors.numpy import load_file

    index = Index.open(root, model=encoder)
    index.update()
    segment = next(index.folder.glob("*.segment"))
    ours = ArrayFile(segment)
    for name, array in load_file(segment).items():
        np.testing.assert_array_equal(array, ours[name])
    assert Catalog.read(index.folder).generation > 0


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 50))
def test_top_is_exact_with_ties(scores, count):
    array = np.array(scores, np.float64)
    kept = top(array, count)
    wanted = sorted(scores, reverse=True)[:count]
    assert sorted(array[kept], reverse=True)[:count] == wanted
    assert set(np.flatnonzero(array >= wanted[-1]) if wanted else []) == set(kept.tolist())


def test_equal_passages_are_ordered_by_path_and_line(tmp_path, encoder):
    fill(tmp_path, {f"{name}.csv": "same words\n" * 20 for name in "cab"})
    index = Index.open(tmp_path, model=encoder)
    index.update()
    for mode in ("lexical", "dense", "hybrid"):
        hits = index.search("same words", top_k=25, mode=mode)
        places = [(hit.path, hit.line) for hit in hits]
        assert places == sorted(places)
        assert len({hit.score for hit in hits}) == 1
        assert places[0][0] == "a.csv"
