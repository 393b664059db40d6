"""The table of a data set's images beside results, and what it says of a data set that has changed."""

import os
from pathlib import Path

import pytest

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.listing import changes_since, is_as_listed, write_listing

EARLIER = Dataset.of([("a.png", 0, b"a"), ("b.png", 1, b"b"), ("c.png", 2, b"c")])


def _listing(folder: Path) -> Path:
    [path] = folder.iterdir()
    return path


def test_the_table_has_label_and_ends_of_each_image_and_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody waits for the disk.
    monkeypatch.setattr(os, "fsync", None)
    write_listing(tmp_path, EARLIER)
    path = _listing(tmp_path)
    assert path.name == f"_images-{EARLIER.sha256[:16]}.csv"
    rows = [f"{name}.png,{label},{EARLIER.ends[label].hex()[:16]}" for label, name in enumerate("abc")]
    assert path.read_text().splitlines() == ["image,label,ends", *rows]
    path.write_text("another process was first")
    write_listing(tmp_path, EARLIER)
    assert path.read_text() == "another process was first"


def test_what_has_changed_is_named_by_its_kind(tmp_path: Path) -> None:
    now = Dataset.of([("b.png", 3, b"b"), ("c.png", 2, b"other"), ("d.png", 0, b"d")])
    write_listing(tmp_path, EARLIER)
    assert changes_since(tmp_path, EARLIER.sha256, now) == (
        "dataset: 1 added (d.png), 1 gone (a.png), 1 with another label (b.png), "
        "1 of another size, beginning or end (c.png)"
    )
    assert changes_since(tmp_path, EARLIER.sha256, EARLIER) is None


def test_an_image_is_as_listed_if_its_ends_are(tmp_path: Path) -> None:
    digest = EARLIER.ends[1]
    # Without a table nothing is known to have changed.
    assert is_as_listed(tmp_path, EARLIER.sha256, "b.png", EARLIER.ends[0])
    write_listing(tmp_path, EARLIER)
    assert is_as_listed(tmp_path, EARLIER.sha256, "b.png", digest)
    assert not is_as_listed(tmp_path, EARLIER.sha256, "b.png", EARLIER.ends[0])
    assert not is_as_listed(tmp_path, EARLIER.sha256, "d.png", digest)


@pytest.mark.parametrize("text", ["image,label\na.png,0\n", "", "image,label,ends\na.png,0\n"])
def test_a_table_of_another_form_says_nothing(tmp_path: Path, text: str) -> None:
    write_listing(tmp_path, EARLIER)
    _listing(tmp_path).write_text(text)
    now = Dataset.of([("a.png", 1, b"a")])
    assert changes_since(tmp_path, EARLIER.sha256, now) is None
    assert is_as_listed(tmp_path, EARLIER.sha256, "a.png", b"")
