"""Images in several parts: which copy stays, and what else may happen to the folder meanwhile."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from builders import run_key

from ensemble_eval.evaluation.key import RUN
from ensemble_eval.files import write_atomically
from ensemble_eval.store import store as stores
from ensemble_eval.store.parts import Part, encode, part_name
from ensemble_eval.store.store import Store

KEY = run_key()


def part_of(images: str, rank: int = 0, *, written: float = 0.0, seconds: float = 0.0, passes: int = 0) -> Part:
    """A part whose rows can be told from another's by their rank."""
    rows = [
        {
            "image": image,
            "member": "a",
            "crops": 1,
            "label": 0,
            "rank": rank,
            "top5": [0],
            "top5_probability": [1.0],
        }
        for image in images
    ]
    return Part(rows, list(images), seconds=seconds, written=written, passes=passes)


def put(out: Path, part: Part) -> Path:
    """Write a part with its own time."""
    data = encode(part, RUN, KEY)
    path = out / RUN.folder / part_name(data)
    write_atomically(path, data)
    return path


def put_in_order(out: Path, of_passes: Callable[[int], tuple[Part, Part]], *, reverse: bool) -> tuple[Path, Path]:
    """Write two parts whose names sort as they are given, or the other way round; passes change the names."""
    for passes in itertools.count():
        parts = of_passes(passes)
        first, second = (part_name(encode(part, RUN, KEY)) for part in parts)
        if (first > second) is reverse:
            return put(out, parts[0]), put(out, parts[1])
    raise AssertionError


def ranks_after_cleaning(out: Path) -> dict[str, int]:
    store = Store(out, RUN, KEY)
    assert store.open().repeated
    store.deduplicate()
    assert not store.open().repeated
    frame = store.frame(["image", "rank"])
    assert frame["image"].is_unique
    return dict(zip(frame["image"], frame["rank"], strict=True))


def files(out: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written again, even with the same bytes."""
    stats = {path.name: path.stat() for path in (out / RUN.folder).iterdir()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


@pytest.mark.parametrize("reverse", [False, True], ids=["names as times", "names against times"])
@pytest.mark.parametrize(
    ("kept", "removed"),
    [
        ({"written": 1.0, "seconds": 9.0}, {"written": 2.0, "seconds": 1.0}),
        # As text, 10 would come first.
        ({"written": 9.0}, {"written": 10.0}),
        ({"written": 1.0, "seconds": 9.0}, {"written": 1.0, "seconds": 10.0}),
    ],
    ids=["earlier", "earlier by digits", "shorter"],
)
def test_the_copy_that_was_written_first_is_kept_whatever_the_names(
    tmp_path: Path, kept: Mapping[str, float], removed: Mapping[str, float], reverse: bool
) -> None:
    def parts(passes: int) -> tuple[Part, Part]:
        return part_of("ab", 1, passes=passes, **kept), part_of("bc", 2, passes=passes, **removed)

    put_in_order(tmp_path, parts, reverse=reverse)
    assert ranks_after_cleaning(tmp_path) == {"a": 1, "b": 1, "c": 2}


def test_of_copies_of_one_moment_all_processes_keep_the_same(tmp_path: Path) -> None:
    """Each has seen the parts in an order of its own."""
    kept = set()
    for order in (1, -1):
        out = tmp_path / str(order)
        for images, rank in [("ab", 1), ("bc", 2)][::order]:
            put(out, part_of(images, rank))
        store = Store(out, RUN, KEY)
        store.open()
        store.deduplicate()
        frame = pd.read_parquet(out / RUN.folder)
        assert sorted(frame["image"]) == ["a", "b", "c"]
        kept.add(int(frame.set_index("image")["rank"]["b"]))
    assert len(kept) == 1


def test_parts_that_lose_no_image_stay_untouched(tmp_path: Path) -> None:
    put(tmp_path, part_of("ab", written=1.0))
    put(tmp_path, part_of("d", written=3.0))
    put(tmp_path, Part(unreadable={"e": "damaged"}, written=4.0))
    before = files(tmp_path)
    loser = put(tmp_path, part_of("bc", written=2.0))
    ranks_after_cleaning(tmp_path)
    after = files(tmp_path)
    assert {name: after.get(name) for name in before} == before
    assert not loser.exists()
    assert len(after) == 4


def test_a_part_that_loses_every_image_still_tells_what_it_cost_and_what_it_could_not_read(tmp_path: Path) -> None:
    put(tmp_path, part_of("abc", 1, written=1.0, seconds=10.0, passes=30))
    loser = part_of("bc", 2, written=2.0, seconds=5.0, passes=20)
    loser.unreadable = {"d": "damaged"}
    put(tmp_path, loser)
    assert ranks_after_cleaning(tmp_path) == {"a": 1, "b": 1, "c": 1}
    progress = Store(tmp_path, RUN, KEY).open()
    assert progress.done == {"a", "b", "c"}
    assert progress.unreadable == {"d": "damaged"}
    assert (progress.passes, progress.seconds) == (50, 15.0)


def test_without_repeats_nothing_is_written(tmp_path: Path) -> None:
    put(tmp_path, part_of("ab"))
    put(tmp_path, part_of("c"))
    before = files(tmp_path)
    store = Store(tmp_path, RUN, KEY)
    store.open()
    store.deduplicate()
    assert files(tmp_path) == before


def test_a_part_that_another_process_removed_before_does_not_stop_the_others(tmp_path: Path) -> None:
    put(tmp_path, part_of("abc", 1, written=1.0))
    gone, loser = put(tmp_path, part_of("bd", 2, written=2.0)), put(tmp_path, part_of("ce", 3, written=3.0))
    store = Store(tmp_path, RUN, KEY)
    store.open()
    gone.unlink()
    store.deduplicate()
    assert not loser.exists()
    assert not store.open().repeated
    assert store.open().done == {"a", "b", "c", "e"}


def test_a_part_that_another_process_removes_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, part_of("ab", 1, written=1.0))
    loser = put(tmp_path, part_of("bc", 2, written=2.0))

    def write_beside_another(path: Path, data: bytes) -> None:
        write_atomically(path, data)
        # It has done the same, to the same bytes, and is a step ahead.
        loser.unlink()

    monkeypatch.setattr(stores, "write_atomically", write_beside_another)
    assert ranks_after_cleaning(tmp_path) == {"a": 1, "b": 1, "c": 2}


# pyarrow takes a folder's name of this form for a column of the files below it.
@pytest.mark.parametrize("name", ["x=y", "crops=10", "image=b"])
def test_a_folder_whose_name_looks_like_a_partition_adds_and_changes_no_column(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    kept = put(out, part_of("ab", 1, written=1.0))
    put(out, part_of("bc", 2, written=2.0))
    columns = pq.read_schema(kept).names
    assert ranks_after_cleaning(out) == {"a": 1, "b": 1, "c": 2}
    for path in (out / RUN.folder).iterdir():
        assert pq.read_schema(path).names == columns
    store = Store(out, RUN, KEY)
    store.open()
    frame = store.frame(["image", "crops"])
    assert (list(frame["image"]), set(frame["crops"])) == (["a", "b", "c"], {1})


def test_a_part_that_is_rewritten_to_the_bytes_of_another_is_not_lost(tmp_path: Path) -> None:
    """A folder that was cleaned up, merged with its copy from before.

    The copy's part and the rewritten one were written at the same moment, so the name decides between them.
    Where it speaks for the copy's, that is rewritten to the other's bytes, while the other loses its image.
    """
    first = part_of("b", 1, written=1.0)
    for passes in itertools.count():
        both, once = part_of("bc", 2, written=2.0, passes=passes), tmp_path / str(passes)
        put(once, first)
        copy = put(once, both)
        before = set(files(once))
        ranks_after_cleaning(once)
        [rewritten] = set(files(once)) - before
        if copy.name < rewritten:
            break
    out = once
    assert put(out, both) == copy
    assert set(files(out)) == before | {rewritten}
    assert ranks_after_cleaning(out) == {"b": 1, "c": 2}
    # This is the case: had it been the other way round, the copy's part would have become one without images.
    assert (copy.exists(), (out / RUN.folder / rewritten).exists()) == (False, True)
