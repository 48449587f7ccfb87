import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from fourfold.store.files import atomic_folder, write_bytes, write_json


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_file_is_written_whole(tmp_path):
    write_bytes(tmp_path / "new" / "x", b"1")
    write_bytes(tmp_path / "new" / "x", b"22")
    assert content(tmp_path) == {"new/x": b"22"}


def test_json_is_ascii(tmp_path):
    write_json(tmp_path / "x.json", {"b": "é", "a": 1})
    text = (tmp_path / "x.json").read_bytes()
    assert text.isascii()
    assert list(json.loads(text)) == ["b", "a"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_bytes(tmp_path / "x", b"old")

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_bytes(tmp_path / "x", b"new")
    assert content(tmp_path) == {"x": b"old"}


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_modes_are_those_of_ordinary_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "x", b"")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_files_that_another_library_made_private_are_not(tmp_path):
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "sub").mkdir(mode=0o700)
        (folder / "sub" / "weights").write_bytes(b"1")
        (folder / "sub" / "weights").chmod(0o600)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "model" / "sub" / "weights").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "model" / "sub").stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_new_folder_appears_at_the_end(tmp_path):
    target = tmp_path / "parent" / "model"
    with atomic_folder(target) as folder:
        (folder / "x").write_text("1")
        assert not target.exists()
    assert content(tmp_path) == {"parent/model/x": b"1"}


def test_files_of_an_existing_folder_are_replaced_and_others_stay(tmp_path):
    target = tmp_path / "model"
    (target / "sub").mkdir(parents=True)
    for name in ("x", "sub/y", "mine"):
        (target / name).write_text("old")
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "other").mkdir()
        for name in ("x", "sub/y", "other/z"):
            (folder / name).write_text("new")
    assert content(tmp_path) == {
        "model/x": b"new", "model/sub/y": b"new", "model/other/z": b"new", "model/mine": b"old",
    }  # fmt: skip


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    target = tmp_path / "model"
    target.mkdir()
    (target / "x").write_text("old")

    def save():
        with atomic_folder(target) as folder:
            (folder / "x").write_text("new")
            (folder / "y").write_text("new")
            raise error

    with pytest.raises(error):
        save()
    assert content(tmp_path) == {"model/x": b"old"}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_error_before_the_first_save_leaves_no_folder(tmp_path):
    def save():
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "x").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        save()
    assert list(tmp_path.iterdir()) == []


def test_the_list_of_modules_is_replaced_last(tmp_path, monkeypatch):
    from pathlib import Path

    target = tmp_path / "model"
    target.mkdir()
    moved = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (moved.append(self.name), replace(self, to))[1])
    with atomic_folder(target) as folder:
        for name in ("a", "modules.json", "z"):
            (folder / name).write_text("new")
    assert moved[-1] == "modules.json"
    assert sorted(moved) == ["a", "modules.json", "z"]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("moment", ["writing", "before the rename"])
def test_a_killed_save_leaves_the_old_folder_loadable(tmp_path, moment):
    target = tmp_path / "model"
    target.mkdir()
    (target / "modules.json").write_text("old")
    code = f"""
        import sys, time
        from pathlib import Path
        from fourfold.store.files import atomic_folder
        with atomic_folder(Path({str(target)!r})) as folder:
            (folder / "modules.json").write_text("new")
            (folder / "weights").write_bytes(b"0" * 1000)
            print("ready", flush=True)
            time.sleep(60)
    """
    if moment == "before the rename":
        code = code.replace("time.sleep(60)", "pass").replace(
            "with atomic_folder",
            "Path.replace = lambda self, to: (print('ready', flush=True), time.sleep(60))\n        with atomic_folder",
        )
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert process.stdout.readline().strip() == "ready"
        if moment == "before the rename":
            process.stdout.readline()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert content(target) == {"modules.json": b"old"}
    # The next save succeeds beside whatever the killed one left.
    with atomic_folder(target) as folder:
        (folder / "modules.json").write_text("newer")
    assert content(target) == {"modules.json": b"newer"}
