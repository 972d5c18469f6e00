"""Lists of files: complete, in an order that the names alone decide, small, and never stale."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from ssl_lightning.data.files import file_list as files
from ssl_lightning.data.files import table_cache as file_cache
from ssl_lightning.data.files.file_list import list_files
from ssl_lightning.plugins.messages import printable

SUFFIXES = [".jpg", ".png"]


def make(root, *names):
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").close()


def names(listed):
    return [listed.relative(index) for index in range(len(listed))]


def settle(monkeypatch):
    """Lets folders that were changed just now count as long unchanged."""
    monkeypatch.setattr(files, "RECENT", -(10**12))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path, cache):
    root = tmp_path / "pictures"
    make(
        root,
        "b/2.jpg",
        "b/10.JPG",
        "a/x.png",
        "a/deep/y.Png",
        "B/z.jpg",
        "top.jpg",
        "a.b/q.jpg",
        "a/notes.txt",
        "empty/no.txt",
    )
    return root


def test_all_files_are_listed_folder_by_folder_in_the_order_of_their_bytes(root):
    listed = list_files(root, SUFFIXES)
    expected = ["top.jpg", "B/z.jpg", "a/x.png", "a/deep/y.Png", "a.b/q.jpg", "b/10.JPG", "b/2.jpg"]
    assert names(listed) == expected and len(listed) == 7
    assert list(listed) == [str(root / name) for name in expected]
    assert listed[-1] == str(root / "b/2.jpg") and listed.root == root
    with pytest.raises(IndexError):
        listed[7]


def test_the_order_does_not_depend_on_the_order_of_creation(tmp_path, root):
    other = tmp_path / "other"
    make(other, *reversed(names(list_files(root, SUFFIXES))))
    assert names(list_files(other, SUFFIXES)) == names(list_files(root, SUFFIXES))
    assert list_files(other, SUFFIXES).fingerprint == list_files(root, SUFFIXES).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        ("a/w.png", None),
        (None, "b/2.jpg"),
        ("a/x2.png", "a/x.png"),
        ("a/deep/x.png", "a/x.png"),
        ("a/2.jpg", "b/2.jpg"),
        ("C/z.jpg", "B/z.jpg"),
    ],
)
def test_the_fingerprint_changes_with_any_name(root, change):
    before = list_files(root, SUFFIXES).fingerprint
    new, old = change
    if old:
        (root / old).unlink()
    if new:
        make(root, new)
    assert list_files(root, SUFFIXES).fingerprint != before


def test_relative_and_home_paths_are_made_absolute(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(root.parent))
    assert list_files("pictures", SUFFIXES)[0] == list_files("~/pictures/", SUFFIXES)[0] == str(root / "top.jpg")


def test_suffixes_are_taken_with_or_without_dot_in_any_case(root):
    assert names(list_files(root, ["PNG"])) == names(list_files(root, [".png"])) == ["a/x.png", "a/deep/y.Png"]


def test_hidden_files_and_what_systems_leave_behind_are_skipped(root):
    make(
        root,
        ".hidden.jpg",
        ".thumbnails/1.jpg",
        "__MACOSX/1.jpg",
        "a/@eaDir/1.jpg",
        "a/._x.jpg",
        "b/jpg",
        "b/1.jpg.part",
        "b/.jpg",
    )
    assert len(list_files(root, SUFFIXES)) == 7
    (root / "folder.jpg").mkdir()
    make(root, "folder.jpg/inside.jpg")
    assert "folder.jpg/inside.jpg" in names(list_files(root, SUFFIXES)) and len(list_files(root, SUFFIXES)) == 8


def test_links_are_followed_but_not_round_in_a_circle(root, tmp_path):
    make(tmp_path / "elsewhere", "c/1.jpg", "2.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    (tmp_path / "elsewhere" / "c" / "self").symlink_to(tmp_path / "elsewhere" / "c")
    (root / "file.jpg").symlink_to(tmp_path / "elsewhere" / "2.png")
    (root / "gone.jpg").symlink_to(tmp_path / "nothing")
    found = names(list_files(root, SUFFIXES))
    assert {"linked/c/1.jpg", "linked/2.png", "file.jpg", "gone.jpg"} <= set(found) and len(found) == 11


def test_names_that_are_no_utf_8_survive(root):
    make(root, b"b/caf\xe9.jpg", b"\xff/1.jpg")
    listed = list_files(root, SUFFIXES)
    assert os.path.exists(listed[-1]) and os.fsencode(listed.relative(len(listed) - 1)) == b"\xff/1.jpg"
    assert listed.folders().names[-1] == os.fsdecode(b"\xff") and sum(map(os.path.exists, listed)) == 9


def test_folders_gives_each_files_first_folder(root):
    first = list_files(root, SUFFIXES).folders()
    assert first.names == ["B", "a", "a.b", "b"] and first.of_file.tolist() == [-1, 0, 1, 1, 2, 3, 3]
    assert first.of_file.dtype == np.int64 and not first.one_level


def test_the_folders_that_hold_files_are_found_at_any_level(tmp_path, cache):
    make(tmp_path / "places", "out/temple/1.jpg", "in/temple/2.jpg", "in/hall/old/3.jpg", "park/4.jpg", "5.jpg")
    last = list_files(tmp_path / "places", SUFFIXES).folders(last=True)
    assert last.names == ["old", "park", "temple"] and not last.one_level
    by_file = dict(zip(map(os.path.basename, list_files(tmp_path / "places", SUFFIXES)), last.of_file, strict=True))
    assert by_file == {"1.jpg": 2, "2.jpg": 2, "3.jpg": 0, "4.jpg": 1, "5.jpg": -1}


@pytest.mark.parametrize("extra, one_level", [((), True), (("top.jpg",), False), (("a/deep/3.jpg",), False)])
def test_one_level_says_whether_every_file_lies_right_in_a_class_folder(tmp_path, cache, extra, one_level):
    make(tmp_path / "classes", "a/1.jpg", "b/2.jpg", "c/deep/no.txt", *extra)
    first = list_files(tmp_path / "classes", SUFFIXES).folders()
    assert first.one_level is one_level and first.names == ["a", "b"]


def test_the_second_time_no_folder_is_listed(root, cache, monkeypatch):
    settle(monkeypatch)
    first = list_files(root, SUFFIXES)
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail(f"listed {path}"))
    again = list_files(root, SUFFIXES)
    assert names(again) == names(first) and again.fingerprint == first.fingerprint
    assert again.folders().names == first.folders().names and np.array_equal(
        again.folders().of_file, first.folders().of_file
    )


@pytest.mark.parametrize("where", ["", "a", "a/deep", "empty", "linked"])
def test_a_change_in_any_folder_is_seen(root, tmp_path, monkeypatch, where):
    settle(monkeypatch)
    make(tmp_path / "elsewhere", "1.jpg")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    before = names(list_files(root, SUFFIXES))
    make(root, os.path.join(where, "new.jpg"))
    after = names(list_files(root, SUFFIXES))
    assert len(after) == len(before) + 1
    (root / where / "new.jpg").unlink()
    assert names(list_files(root, SUFFIXES)) == before


def test_a_change_whose_date_was_set_back_is_seen(root, monkeypatch):
    settle(monkeypatch)
    before, state = len(list_files(root, SUFFIXES)), os.stat(root / "a")
    make(root, "a/new.jpg")
    os.utime(root / "a", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert len(list_files(root, SUFFIXES)) == before + 1


def test_a_folder_that_went_is_seen(root, monkeypatch):
    settle(monkeypatch)
    list_files(root, SUFFIXES)
    for path in sorted((root / "a").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (root / "a").rmdir()
    assert len(list_files(root, SUFFIXES)) == 5


def test_a_folder_changed_just_now_is_not_trusted(root, cache):
    """Its next change could come within the same tick of the file system's clock, and would bear
    the same date."""
    listed = list_files(root, SUFFIXES)
    assert not list(cache.glob("*"))
    past = time.time_ns() - 10 * files.RECENT
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        os.utime(folder, ns=(past, past))
    assert not list(cache.glob("*"))  # set back, but changed now
    assert names(pickle.loads(pickle.dumps(listed))) == names(listed)


def test_another_root_or_suffix_has_a_list_of_its_own(root, tmp_path, cache, monkeypatch):
    settle(monkeypatch)
    assert [len(list_files(root, suffixes)) for suffixes in (SUFFIXES, [".png"], SUFFIXES)] == [7, 2, 7]
    (tmp_path / "link").symlink_to(root)
    assert list_files(tmp_path / "link", SUFFIXES)[0] == str(tmp_path / "link" / "top.jpg")
    assert len(list(cache.glob("*"))) == 2


def test_a_damaged_cache_is_made_anew(root, cache, monkeypatch):
    settle(monkeypatch)
    expected = names(list_files(root, SUFFIXES))
    (path,) = cache.glob("*")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[file_cache.HEADER + 9] ^= 1
    for damaged in (
        b"",
        whole[:100],
        whole[:-1],
        whole + b"x",
        bytes(flipped),
        b"[]".ljust(2000),
        b"{}".ljust(2000),
        b"\0" * 5000,
    ):
        path.write_bytes(damaged)
        assert names(list_files(root, SUFFIXES)) == expected
        assert path.read_bytes()[file_cache.HEADER :] == whole[file_cache.HEADER :]


def test_without_a_place_for_the_cache_all_goes_on(root, tmp_path, monkeypatch):
    settle(monkeypatch)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", None):
        assert len(list_files(root, SUFFIXES, cache=place)) == 7
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "file"))
    assert len(list_files(root, SUFFIXES)) == 7


def test_a_full_disk_leaves_no_remains(root, cache, monkeypatch):
    settle(monkeypatch)
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert len(list_files(root, SUFFIXES)) == 7
    assert not list(cache.glob("*"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep caches in other folders")
def test_the_cache_lies_where_the_environment_says(monkeypatch):
    for name in ("SSL_LIGHTNING_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    assert file_cache.default_folder() == Path("/h/.cache/ssl_lightning")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert file_cache.default_folder() == Path("/x/ssl_lightning")
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", "/own")
    assert file_cache.default_folder() == Path("/own")


@pytest.mark.slow
def test_a_cached_list_is_pickled_by_its_place(root, cache, monkeypatch):
    settle(monkeypatch)
    make(root, *(f"many/{number:04}.jpg" for number in range(1000)))
    listed = list_files(root, SUFFIXES)
    assert len(pickle.dumps(listed)) < 1000 < len(pickle.dumps(list_files(root, SUFFIXES, cache=None)))
    pickled = pickle.dumps(listed)
    code = (
        "import pickle, sys; listed = pickle.load(sys.stdin.buffer); print(len(listed), listed[500],"
        " listed.fingerprint)"
    )
    said = (
        subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True)
        .stdout.decode()
        .split()
    )
    assert said == [str(len(listed)), listed[500], listed.fingerprint]
    make(root, "another.jpg")
    list_files(root, SUFFIXES)
    assert len(listed) == 1007 and len(names(listed)) == 1007  # what was mapped stays
    with pytest.raises(RuntimeError, match="Start it again"):
        pickle.loads(pickled)


AT_ONCE = """
import sys
from ssl_lightning.data.files import table_cache as file_cache
from ssl_lightning.data.files import file_list as files

files.RECENT = -(10**12)
for _ in range(20):
    listed = files.list_files(sys.argv[1], [".jpg", ".png"])
    assert len(listed) == len(list(listed)) == 1007
    file_cache.path_of("default", listed.root, frozenset((b".jpg", b".png"))).unlink(missing_ok=True)
"""


@pytest.mark.slow
def test_two_processes_may_list_at_once(root, cache):
    make(root, *(f"many/{number:04}.jpg" for number in range(1000)))
    running = [subprocess.Popen([sys.executable, "-c", AT_ONCE, str(root)], stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[1] for process in running] == [b"", b""]
    assert not list(cache.glob("*.tmp"))


def test_nothing_found_says_what_was_sought_and_what_is_there(tmp_path, cache):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none holds no files. Names that end in .jpg, .png were looked for"):
        list_files(tmp_path / "none", SUFFIXES)
    make(tmp_path / "none", "1.heic", "2.HEIC", "a/3.mov", "readme")
    with pytest.raises(
        ValueError,
        match=r"None of the 4 files below .*none ends in .jpg, .png. They are: .heic \(2\), .*without suffix \(1\)",
    ):
        list_files(tmp_path / "none", SUFFIXES)


def test_a_missing_folder_is_answered_with_a_near_one(root):
    with pytest.raises(FileNotFoundError, match=r"no folder 'picture' in .*\. Did you mean 'pictures'\?"):
        list_files(root.parent / "picture", SUFFIXES)
    with pytest.raises(FileNotFoundError, match=r"no folder 'A' in .*/pictures\. Did you mean 'a'"):
        list_files(root / "A" / "deep" / "er", SUFFIXES)


def test_a_file_is_no_folder(root):
    for path in (root / "top.jpg", root / "top.jpg" / "below"):
        with pytest.raises(NotADirectoryError, match=r"top\.jpg is a file, not a folder"):
            list_files(path, SUFFIXES)


def test_a_locked_folder_is_named_not_skipped():
    with tempfile.TemporaryDirectory() as folder:
        make(folder, "a/1.jpg", "a/locked/2.jpg")
        os.chmod(folder, 0o755)
        os.chmod(os.path.join(folder, "a", "locked"), 0)
        user = os.geteuid()
        if not user:
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match=r"This user may not list the folder .*a/locked"):
                list_files(folder, SUFFIXES, cache=None)
        finally:
            os.seteuid(user)
            os.chmod(os.path.join(folder, "a", "locked"), 0o755)


def test_a_listed_file_costs_its_name_and_some_bytes(root):
    make(root, *(f"many/{number:04}.jpg" for number in range(2000)))
    listed = list_files(root, SUFFIXES, cache=None)
    assert len(pickle.dumps(listed)) < 2007 * (len("0000.jpg") + 8) + 2000


def test_the_plots_of_runs_are_no_samples(root):
    before = list_files(root, SUFFIXES)
    make(
        root, "runs/simclr/now/config.yaml", "runs/simclr/now/checkpoints/last.ckpt", "runs/simclr/now/plots/views.png"
    )
    after = list_files(root, SUFFIXES)
    assert names(after) == names(before) and after.fingerprint == before.fingerprint
    make(root, "a/config.yaml", "b/checkpoints/c.jpg")  # one of the two alone makes no run
    assert names(list_files(root, SUFFIXES)) == [*names(before), "b/checkpoints/c.jpg"]


def test_a_name_in_a_message_stays_in_its_line():
    assert printable(b"a\nb\x1b[0m\xff \xc3\xa9.jpg") == r"a\nb\x1b[0m\xff é.jpg"
