from dataclasses import replace
from pathlib import Path

import pytest

from ensemble_eval.backends.opening import same_weights
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.scope import Scope
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.opening import open_sources, sources_of
from ensemble_eval.members.classes import WNIDS
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.manifest import write_manifest
from ensemble_eval.settings import RunSettings, Settings


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """A manifest of a network of ImageNet's classes, whose weights nobody loads."""
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    member = Member("a", arch="googlenet", weights=tmp_path / "a.safetensors")
    path = tmp_path / "ensemble.toml"
    write_manifest(path, Ensemble((member,), "imagenet-1k", "one"))
    return path


def _val(root: Path, classes: int) -> Path:
    for index in range(classes):
        (root / WNIDS[index]).mkdir(parents=True)
        (root / WNIDS[index] / "a.JPEG").write_bytes(b"image")
    return root


def _warnings(dataset: Path, ensemble: Path, labels: Path | None = None) -> tuple[str, ...]:
    return open_sources(RunSettings(dataset=dataset, ensemble=ensemble, labels=labels, device="cpu")).warnings


def test_a_subset_of_imagenets_classes_is_said_to_be_one(tmp_path: Path, imagenet: Path) -> None:
    assert _warnings(_val(tmp_path / "val", 3), imagenet) == (
        "the images are of 3 of the 1000 classes of imagenet-1k, so the errors are those of this subset; labels "
        'are ranked among all classes; to rank them among the subset\'s, use `subset_classes="dataset"`',
    )
    assert _warnings(_val(tmp_path / "whole", 1000), imagenet) == ()
    labels = tmp_path / "labels.csv"
    labels.write_text("".join(["file,label\n", *(f"{WNIDS[index]}/a.JPEG,{index}\n" for index in range(3))]))
    assert (
        open_sources(
            RunSettings(dataset=tmp_path / "val", ensemble=imagenet, device="cpu", labels=labels)
        ).warnings
        == ()
    )


def test_hidden_images_and_other_files_are_counted_and_named(tmp_path: Path, imagenet: Path) -> None:
    root = _val(tmp_path / "val", 1000)
    for name in ("._a.JPEG", "._b.JPEG", "notes.txt", ".DS_Store"):
        (root / WNIDS[0] / name).write_bytes(b"")
    (root / WNIDS[1] / "up").symlink_to("..")
    assert _warnings(root, imagenet) == (
        f"1 links are not followed, because they lead back to folders that are read anyway: {WNIDS[1]}/up -> ..",
        "2 images or folders are hidden (their names begin with a dot) and are ignored: "
        f"{WNIDS[0]}/._a.JPEG, {WNIDS[0]}/._b.JPEG",
        f"1 files are ignored, because by location or suffix they are not labelled images: {WNIDS[0]}/notes.txt",
    )


@pytest.mark.parametrize(
    "scope",
    [Scope(several_labels=True), Scope(counted_classes=(0, 1)), Scope(labelled=False)],
    ids=["several labels", "some classes", "no labels"],
)
def test_ranks_in_other_means_need_one_label_among_all_classes(scope: Scope) -> None:
    ensemble = Ensemble([Member("a", predict=lambda crops: crops, fingerprint="a")], ["cat", "dog"])
    dataset = replace(Dataset.of([("a.png", 0, b"")]), scope=scope)
    with pytest.raises(
        InputError, match="`surface` ranks one label of each image among all classes; leave it out"
    ):
        sources_of(ensemble, dataset, Settings(surface=True, device="cpu"))


def test_only_members_with_the_same_weights_are_warned_of() -> None:
    assert list(same_weights({"a": "1", "b": "2", "c": "3"})) == []
    assert list(same_weights({"a": "1", "b": "2", "c": "1"})) == [
        "members a and c have the same weights; that is not an ensemble"
    ]
