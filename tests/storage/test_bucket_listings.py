"""The listing of a data set in a bucket is made once, kept in the output folder, and gives the fingerprint."""

import functools
import re
import threading
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from buckets import Bucket
from builders import colour_classifier, encoded, picture
from dataset_layouts import CLASSES, LAYOUTS, Labelled, validation_images

from ensemble_eval.datasets.items import BY_ETAGS, Dataset
from ensemble_eval.datasets.listing import write_bucket
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.locations import ObjectPath
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.reports.api import read_results
from ensemble_eval.stores import Meta, Tree

_LAYOUTS = ("class_folders", "tar_of_folders", "webdataset", "parquet")


@pytest.fixture(scope="module")
def images() -> list[Labelled]:
    return validation_images([encoded(picture(40 + seed, 40, seed), "JPEG") for seed in range(8)])


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return Ensemble([Member("a", predict=colour_classifier(0), fingerprint="a")], CLASSES)


def _uploaded(bucket: Bucket, folder: Path, layout: str, images: Sequence[Labelled]) -> ObjectPath:
    given = LAYOUTS[layout](folder / "data", images)
    bucket.upload(folder / "data")
    return bucket.root.at(f"{bucket.prefix}/{given.root.relative_to(folder).as_posix()}")


def _opened(root: Path, out: Path, *, as_listed: bool = True) -> Dataset:
    dataset = open_dataset(root, CLASSES, listed_in=out, as_listed=as_listed)
    assert dataset.listing is not None
    return dataset


def _keep(out: Path, dataset: Dataset, *, replaces: bool = False) -> None:
    assert dataset.listing is not None
    write_bucket(out, dataset.listing, replaces=replaces)


@pytest.mark.parametrize("layout", _LAYOUTS)
def test_a_second_process_opens_the_data_set_with_one_request(
    bucket: Bucket, tmp_path: Path, layout: str, images: list[Labelled]
) -> None:
    root = _uploaded(bucket, tmp_path, layout, images)
    out = bucket.root / "out"
    first = _opened(root, out)
    _keep(out, first)
    bucket.proxy.reset()
    second = _opened(root, out)
    assert second.sha256 == first.sha256
    assert [(item.id, item.label) for item in second.items] == [(item.id, item.label) for item in first.items]
    assert bucket.proxy.counts == {"GET": 1}
    assert [item.read() for item in second.items] == [item.read() for item in first.items]
    # What is read later is not kept.
    _keep(out, first, replaces=True)
    assert bucket.proxy.counts["PUT"] == 0


def test_a_local_output_folder_keeps_the_listing_too(
    bucket: Bucket, tmp_path: Path, images: list[Labelled]
) -> None:
    root = _uploaded(bucket, tmp_path, "class_folders", images)
    _keep(tmp_path / "out", _opened(root, tmp_path / "out"))
    bucket.proxy.reset()
    assert len(_opened(root, tmp_path / "out").items) == len(images)
    assert bucket.proxy.requests == 0


def test_of_many_processes_the_first_writes_the_listing(
    bucket: Bucket, tmp_path: Path, images: list[Labelled]
) -> None:
    root, out = _uploaded(bucket, tmp_path, "class_folders", images), bucket.root / "out"
    together = threading.Barrier(16)

    def start(_: int) -> str:
        dataset = _opened(root, out)
        together.wait()
        _keep(out, dataset)
        return dataset.sha256

    with ThreadPoolExecutor(16) as threads:
        fingerprints = set(threads.map(start, range(16)))
    assert len(fingerprints) == 1
    assert len(list(out.iterdir())) == 1


def test_two_processes_that_listed_different_objects_do_not_both_start(
    bucket: Bucket, tmp_path: Path, images: list[Labelled]
) -> None:
    root, out = _uploaded(bucket, tmp_path, "class_folders", images), bucket.root / "out"
    first = _opened(root, out)
    (root / CLASSES[0] / "one-more.jpeg").put(images[0].data)
    second = _opened(root, out)
    _keep(out, first)
    with pytest.raises(InputError, match="are changing while the run starts; start it again later"):
        _keep(out, second)


def test_whoever_reports_lists_again_and_reads_only_what_has_changed(
    bucket: Bucket, tmp_path: Path, images: list[Labelled]
) -> None:
    root, out = _uploaded(bucket, tmp_path, "webdataset", images), bucket.root / "out"
    first = _opened(root, out)
    _keep(out, first)
    bucket.proxy.reset()
    second = _opened(root, out, as_listed=False)
    # The old listing, and the new one.
    assert bucket.proxy.counts == {"GET": 2}
    assert second.sha256 == first.sha256
    _keep(out, second)
    assert bucket.proxy.counts["PUT"] == 0
    shard = next(path for path in bucket.root.rglob("*.tar"))
    shard.put(shard.read_bytes() + bytes(10240))
    bucket.proxy.reset()
    third = _opened(root, out, as_listed=False)
    assert bucket.proxy.counts == {"GET": 3}
    assert third.sha256 != first.sha256
    _keep(out, third)
    assert _opened(root, out).sha256 == third.sha256


def test_the_fingerprint_is_that_of_the_objects_and_never_that_of_files(
    bucket: Bucket, tmp_path: Path, images: list[Labelled], ensemble: Ensemble
) -> None:
    root, out = _uploaded(bucket, tmp_path, "class_folders", images), bucket.root / "out"
    local = open_dataset(tmp_path / "data" / "val", CLASSES)
    before = open_dataset(root, CLASSES)
    assert before.sha256.startswith(BY_ETAGS)
    assert not local.sha256.startswith(BY_ETAGS)
    # The same objects under another URL have one fingerprint.
    assert open_dataset(bucket.upload(tmp_path / "data" / "val", "copy"), CLASSES).sha256 == before.sha256
    evaluate(ensemble, before, crops=1, out=out, device="cpu", backend="torch")
    with pytest.raises(InputError, match="once in a bucket and once in files, so nothing shows"):
        evaluate(ensemble, local, crops=1, out=out, device="cpu", backend="torch")
    first = before.items[0]
    (root / first.id).put(images[-1].data + b"\0")
    after = open_dataset(root, CLASSES)
    with pytest.raises(InputError, match=f"dataset: 1 of another size or ETag \\({first.id}\\)"):
        evaluate(ensemble, after, crops=1, out=out, device="cpu", backend="torch")
    evaluate(ensemble, after, crops=1, out=out, device="cpu", backend="torch", fresh=True)
    assert read_results(out).key.dataset == after.sha256
    # A finished run is not that of images that were replaced since.
    again = functools.partial(evaluate, ensemble, root, crops=1, out=out, device="cpu", backend="torch")
    again()
    (root / first.id).put(images[-1].data)
    with pytest.raises(InputError, match=f"dataset: 1 of another size or ETag \\({first.id}\\)"):
        again()


@pytest.mark.parametrize("layout", _LAYOUTS)
def test_an_image_that_is_replaced_or_removed_later_is_not_evaluated(
    bucket: Bucket, tmp_path: Path, layout: str, images: list[Labelled]
) -> None:
    root = _uploaded(bucket, tmp_path, layout, images)
    dataset = open_dataset(root, CLASSES)
    for path in bucket.root.rglob("*.*"):
        path.put(path.read_bytes() + b"\0")
    with pytest.raises(UnreadableImageError, match="has changed since it was listed"):
        dataset.items[0].read()
    for path in bucket.root.rglob("*.*"):
        path.unlink()
    with pytest.raises(UnreadableImageError, match="does not exist"):
        dataset.items[0].read()


@pytest.mark.parametrize("key", ["bee//b.png", "ant/../b.png", "ant/./b.png"])
def test_keys_that_are_no_paths_are_refused(bucket: Bucket, key: str) -> None:
    if bucket.server.name == "seaweedfs":
        pytest.skip("SeaweedFS takes keys for paths itself, and stores none of these")
    for each in ("ant/a.png", key):
        bucket.client.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/val/{each}", Body=b"")
    with pytest.raises(InputError, match=rf"^s3://.*/val cannot be used: .* invalid path: .*{re.escape(key)}"):
        open_dataset(bucket.root / "val", ["ant", "bee"])


def test_patterns_and_folders_inside_a_data_set_are_as_in_files(
    bucket: Bucket, tmp_path: Path, images: list[Labelled]
) -> None:
    shards = _uploaded(bucket, tmp_path, "webdataset", images)
    folder = shards if shards.is_dir() else shards.parent
    names = sorted(path.name for path in folder.iterdir() if path.suffix == ".tar")
    pattern = folder / f"{names[0][:-5]}*.tar"
    assert [each.id for each in open_dataset(pattern, CLASSES).items] == [
        each.id for each in open_dataset(folder, CLASSES).items
    ]
    with pytest.raises(InputError, match=r"1 of the 2 files of .* do not exist"):
        open_dataset(
            folder / (names[-1][:-5] + f"{{{int(names[-1][-5])}..{int(names[-1][-5]) + 1}}}.tar"), CLASSES
        )
    val = bucket.upload(LAYOUTS["class_folders"](tmp_path / "folders", images).root, "val")
    (val / "results" / "notes.txt").put(b"")
    (val / CLASSES[0] / ".hidden" / "x.png").put(b"")
    (val / CLASSES[0] / "read.me").put(b"")
    dataset = open_dataset(val, CLASSES, leaving_out=val / "results")
    assert len(dataset.items) == len(images)
    assert dataset.ignored == (f"{CLASSES[0]}/.hidden", f"{CLASSES[0]}/read.me")
    (val / "results" / "x.png").put(b"")
    with pytest.raises(InputError, match=r"holds images of the data set \(.*x.png, …\)"):
        open_dataset(val, [*CLASSES, "results"], leaving_out=val / "results")
    with pytest.raises(InputError, match=r"the data set s3://.*/nothing does not exist"):
        open_dataset(bucket.root / "nothing", CLASSES)


def test_opening_takes_less_than_a_kilobyte_of_memory_for_each_image() -> None:
    count = 5000
    tracemalloc.start()
    objects = {f"val/ant/{index:08}.JPEG": Meta(index, f'"{index:032x}"', float(index)) for index in range(count)}
    root = ObjectPath("s3://bucket/val")
    root.tree = Tree("val", objects, {})
    dataset = open_dataset(root, ["ant"])
    assert len(dataset.ends) == count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1000 * count
