"""The list of a folder's files: its order, and that it is used again only as long as no folder has changed."""

import os
import time
from pathlib import Path

import pytest

from modeling_data2vec_generic.data.folders import listing
from modeling_data2vec_generic.data.folders.listing import listing_of

from .test_loading import numbered, write

pytestmark = pytest.mark.fast


def listed(root):
    """The paths of all files, from the top of the data on."""
    found = listing_of(str(root), "train_dir")
    return [os.path.relpath(found.path(number), root) for number in range(len(found))]


@pytest.fixture
def walks(monkeypatch):
    """The folders that were read. Those that a test has just written count as old."""
    found = []
    read = listing._content_of
    monkeypatch.setattr(listing, "_content_of", lambda folder, *rest: found.append(folder) or read(folder, *rest))
    monkeypatch.setattr(listing, "_SETTLED", -(10**12))
    return found


def test_order__is_that_of_walking_through_sorted_names(tmp_path):
    files = ["b/2.png", "b/10.png", "B/x/y.png", "a.png", "b.png", "é.png", "b/ü/1.png", "z/😀.png", "z/ｚ.png"]
    write(tmp_path / "r", *files)
    expected = [
        os.path.relpath(os.path.join(parent, name), tmp_path / "r")
        for parent, folders, names in os.walk(tmp_path / "r")
        for name in (folders.sort(), sorted(names))[1]
    ]
    assert listed(tmp_path / "r") == expected


def test_order__and_paths_do_not_depend_on_the_size_of_pieces(tmp_path, monkeypatch):
    write(tmp_path / "r", *numbered("a", 7), *numbered("b", 4), "c.png")
    whole, key = listed(tmp_path / "r"), listing_of(str(tmp_path / "r"), "train_dir").key
    assert len(whole) == 12
    monkeypatch.setattr(listing, "_AT_ONCE", 3)
    (tmp_path / "r" / "a").touch()
    assert listed(tmp_path / "r") == whole
    assert key


def test_endings__are_those_of_path(tmp_path):
    names = ["a.png", "a.PNG", "a", "a.", "a..b", "a.b.c", "x y.Tar.GZ", "a.É"]
    write(tmp_path / "r", *names)
    found = listing_of(str(tmp_path / "r"), "train_dir").files
    assert found["ending"].to_pylist() == [Path(name).suffix.lower() for name in found["name"].to_pylist()]


def test_list__is_used_again_until_a_folder_changes(tmp_path, walks):
    root = tmp_path / "r"
    write(root, *numbered("a", 2), *numbered("b/c", 2))
    first = listed(root)
    assert len(walks) == 4
    assert listed(root) == first
    assert len(walks) == 4
    changes = [
        lambda: write(root, "b/c/new.png"),
        lambda: (root / "a" / "0.png").unlink(),
        lambda: (root / "a" / "1.png").rename(root / "a" / "one.png"),
        lambda: (root / "b" / "c").rename(root / "b" / "d"),
        lambda: (root / "link").symlink_to(tmp_path / "elsewhere"),
        lambda: write(tmp_path / "elsewhere", "linked.png"),
    ]
    write(tmp_path / "elsewhere", "x.png")
    for change in changes:
        before = listed(root)
        change()
        assert listed(root) != before
    kept = os.stat(root / "a")
    write(root, "a/again.png")
    os.utime(root / "a", ns=(kept.st_atime_ns, kept.st_mtime_ns))  # as rsync does; the time of change is not set back
    assert "a/again.png" in listed(root)


def test_list__of_a_folder_that_has_just_changed_is_not_trusted(tmp_path, walks, monkeypatch):
    monkeypatch.undo()
    write(tmp_path / "r", "a.png")
    began = time.time_ns()
    listed(tmp_path / "r")
    if time.time_ns() - began < 10**9:  # or else the machine was too slow for this test
        state = os.stat(tmp_path / "r")
        monkeypatch.setattr(listing, "_state", lambda folder: [state.st_mtime_ns, state.st_ctime_ns, state.st_ino])
        write(tmp_path / "r", "b.png")
        assert listed(tmp_path / "r") == ["a.png", "b.png"]


def test_list__that_is_damaged_is_made_again(tmp_path, walks):
    write(tmp_path / "r", "a.png")
    listed(tmp_path / "r")
    (file,) = (tmp_path / "cache" / "folders").glob("*.files")
    for content in (b"", file.read_bytes()[:100], os.urandom(300)):
        file.write_bytes(content)
        assert listed(tmp_path / "r") == ["a.png"]


def test_folder__that_cannot_be_read_is_named(tmp_path, monkeypatch, transformers_log):
    write(tmp_path / "r", "a.png", "closed/b.png")
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert listed(tmp_path / "r") == ["a.png"]
    listing_of(str(tmp_path / "r"), "train_dir").tell("r", "train_dir")
    assert "1 folder(s) below train_dir='r' are left out, since they cannot be read: " in transformers_log.text
