import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import randomise
from conftest import Cli
from drawn_boxes import (
    CLASSES,
    Drawn,
    comparable,
    draw,
    outcome_of,
    sees_colours,
    some_proposals,
    store_proposals,
    stored_rows,
)
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection import svm as svm_module
from ensemble_eval.detection.deciding import detections_of
from ensemble_eval.detection.detecting import DetectJob
from ensemble_eval.detection.regions import NO_OBJECT
from ensemble_eval.detection.svm import (
    Features,
    RegionSvm,
    load_svm,
    require_fits,
    save_svm,
    svm_predict,
    train_svm,
)
from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.fingerprints import member_sha256
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.manifest import save_weights, write_manifest
from ensemble_eval.models.registry import build
from ensemble_eval.settings import DetectSettings, SvmSettings

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
NAMES = (*CLASSES, NO_OBJECT)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw(tmp_path_factory.mktemp("drawn"), images=14)


@pytest.fixture(scope="module")
def proposals(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sets = {"rcnn": some_proposals(drawn, 1, near=4, far=8)}
    return store_proposals(tmp_path_factory.mktemp("proposals"), drawn.opened(), sets)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("members")
    path = folder / "a.safetensors"
    member = Member("a", weights=path, arch="googlenet", options={"width": 0.1})
    classes = ClassList("classes", 4, NAMES)
    save_weights(path, randomise(build("googlenet", 4, width=0.1), 1).state_dict(), member, classes)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    write_manifest(folder / "one.toml", Ensemble([member], folder / "classes.txt", "one"))
    return folder / "one.toml"


@pytest.fixture(scope="module")
def ensemble(manifest: Path) -> Ensemble:
    from ensemble_eval.members.manifest import open_ensemble

    return open_ensemble(manifest)


@pytest.fixture(scope="module")
def trained(ensemble: Ensemble, drawn: Drawn, proposals: Path) -> RegionSvm:
    return _train(ensemble, drawn, proposals)


def _train(ensemble: Ensemble, drawn: Drawn, proposals: Path) -> RegionSvm:
    settings = SvmSettings(proposals=proposals, boxes=drawn.boxes, device="cpu")
    taken = list[int]()
    svm = train_svm(ensemble, drawn.opened(), settings, taken.append)
    assert taken == list(range(1, len(drawn.objects) + 1))
    return svm


def test_features_are_what_the_last_pooling_hands_on(ensemble: Ensemble) -> None:
    network = load_member(ensemble.members[0], 4)
    seen: list[Tensor] = []
    network.get_submodule("avgpool").register_forward_hook(lambda _module, _given, made: seen.append(made))
    crops = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        network((crops / 255 - mean) / std)
    found = Features(ensemble.members[0], 4, CPU)(crops)
    assert torch.allclose(found, seen[0].flatten(1), atol=1e-4)


def test_margins_separate_what_was_learnt_and_come_back_from_the_file(
    ensemble: Ensemble, trained: RegionSvm, drawn: Drawn, proposals: Path, tmp_path: Path
) -> None:
    save_svm(tmp_path / "svm.safetensors", trained)
    loaded = load_svm(tmp_path / "svm.safetensors")
    assert torch.equal(loaded.weights, trained.weights)
    assert (loaded.member, loaded.class_names) == (trained.member, CLASSES)
    crops = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    margins = svm_predict(loaded, ensemble, CPU)(crops)
    features = Features(ensemble.members[0], 4, CPU)(crops)
    pairs = list(zip(loaded.weights, loaded.biases, strict=True))
    by_hand = [[float(row @ weight + bias) for weight, bias in pairs] for row in features]
    np.testing.assert_allclose(margins[:, :3].numpy(), by_hand, rtol=1e-4, atol=1e-4)
    assert (margins[:, 3] == 0).all()
    again = _train(ensemble, drawn, proposals)
    assert torch.equal(again.weights, trained.weights)


def test_svms_are_rows_of_their_own_and_leave_the_others_alone(
    cli: Cli, manifest: Path, ensemble: Ensemble, drawn: Drawn, proposals: Path, tmp_path: Path
) -> None:
    inputs = (drawn.root, "--boxes", drawn.boxes, "--proposals", proposals, "--ensemble", manifest)
    assert cli("detect-svm", *inputs, "--out", tmp_path / "svm.safetensors").code == 0
    (tmp_path / "fewer").mkdir()
    fewer = draw(tmp_path / "fewer", images=3)
    others = (fewer.root, "--boxes", fewer.boxes, *inputs[3:])
    refused = cli("detect-svm", *others, "--out", tmp_path / "other.safetensors")
    assert refused.code == 2
    assert "are of other images; propose on this data set first" in refused.err
    rows = {}
    for name, svm in (("with", tmp_path / "svm.safetensors"), ("without", None)):
        settings = DetectSettings(
            proposals=proposals, out=tmp_path / name, svm=svm, device="cpu", backend="torch", batch_size=16
        )
        job = DetectJob(ensemble, drawn.opened(), settings)
        outcome_of(job)
        rows[name] = stored_rows(job.data.store)
    softmax = [row for row in rows["with"] if row["classifier"] == "softmax"]
    assert comparable(softmax) == comparable(rows["without"])
    of_svm = [row for row in rows["with"] if row["classifier"] == "svm"]
    assert len(of_svm) == len(drawn.objects)
    right = 0
    for row in of_svm:
        found = detections_of(row)
        boxes, classes = drawn.objects[row["image"]]
        if len(boxes) and len(found.scores):
            right += int(found.classes[int(found.scores.argmax())]) in classes
    assert right >= 10
    common = ("--out", tmp_path / "with", "--device", "cpu", "--backend", "torch", "--batch-size", 16)
    printed = cli("detect", *inputs, *common, "--svm", tmp_path / "svm.safetensors")
    assert printed.code == 0
    assert "svm" in printed.out


def test_what_does_not_belong_together_is_refused(
    ensemble: Ensemble, trained: RegionSvm, drawn: Drawn, proposals: Path, tmp_path: Path
) -> None:
    other = RegionSvm(trained.weights, trained.biases, "0" * 64, CLASSES)
    with pytest.raises(InputError, match="the SVMs are of another member or of other classes than a of one"):
        require_fits(other, ensemble)
    require_fits(trained, ensemble)
    function = Ensemble([Member("f", predict=sees_colours(1.0), fingerprint="f")], NAMES)
    settings = SvmSettings(proposals=proposals, boxes=drawn.boxes, device="cpu")
    with pytest.raises(InputError, match="member f is a function, and SVMs need the features of a GoogLeNet"):
        train_svm(function, drawn.opened(), settings, print)
    foreign = Member("n", network=nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), input=ensemble.members[0].input)
    with pytest.raises(InputError, match="member n"):
        Features(foreign, 4, CPU)
    more = Ensemble(ensemble.members, ("a", "b", "c", NO_OBJECT))
    document = json.loads(drawn.boxes.read_text())
    for category, name in zip(document["categories"], "abc", strict=True):
        category["name"] = name
    for annotation in document["annotations"]:
        annotation["category_id"] = document["categories"][0]["id"]
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="there is no object of b to learn from; give more images"):
        train_svm(more, drawn.opened(), replace(settings, boxes=tmp_path / "boxes.json"), print)
    assert member_sha256(ensemble.members[0]) == trained.member


def test_files_that_hold_no_svms_are_refused(trained: RegionSvm, tmp_path: Path) -> None:
    path = tmp_path / "svm.safetensors"
    with pytest.raises(InputError, match="cannot be read"):
        load_svm(path)
    save_file({"weights": torch.zeros(1, 1)}, path)
    with pytest.raises(InputError, match="holds no SVMs; `ensemble-eval detect-svm` writes them"):
        load_svm(path)
    save_svm(path, RegionSvm(trained.weights[:2], trained.biases, trained.member, CLASSES))
    with pytest.raises(InputError, match="do not fit its 3 classes"):
        load_svm(path)
    save_svm(path, RegionSvm(trained.weights * torch.nan, trained.biases, trained.member, CLASSES))
    with pytest.raises(InputError, match="holds NaN or infinity"):
        load_svm(path)


def test_each_class_is_fitted_with_r_cnns_values_to_features_of_one_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sklearn.svm

    given, fitted = dict[str, object](), list[NDArray[np.float32]]()

    class Recorded(sklearn.svm.LinearSVC):  # type: ignore[misc]  # it has no types
        def __init__(self, **arguments: object) -> None:
            given.update(arguments)
            super().__init__(**arguments)

        def fit(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> "Recorded":
            fitted.append(features)
            super().fit(features, labels)
            return self

    monkeypatch.setattr(sklearn.svm, "LinearSVC", Recorded)
    features = np.array([[3.0, 4], [0, 5], [5, 0], [4, 3]], np.float32)
    is_object = np.array([[True], [False], [False], [True]])
    # The third overlaps an object by too much for a negative.
    regions = svm_module._Regions(features, np.array([[1.0], [0.29], [0.3], [1]], np.float32), is_object)
    weights, _ = svm_module._fit(regions, 0, "cat", seed=7)
    values = {"C": 1e-3, "class_weight": {1: 2.0, 0: 1.0}, "intercept_scaling": 10.0, "random_state": 7}
    assert values.items() <= given.items()
    # A mean length of 5 becomes 20; objects come before negatives.
    assert fitted[0].tolist() == [[12, 16], [16, 12], [0, 20]]
    assert weights.shape == (2,)


def test_an_image_that_cannot_be_read_is_nothing_to_learn_from(ensemble: Ensemble) -> None:
    [item] = Dataset.of([("a.png", 0, b"no image")]).items
    none = np.zeros(0, bool)
    shown = Objects(np.zeros((0, 4)), np.zeros(0, np.int64), none, none)
    features = Features(ensemble.members[0], ensemble.classes.count, torch.device("cpu"))
    with pytest.raises(InputError, match=r"^a.png not an image .*; leave it out of what is learnt from$"):
        svm_module._of_image(item, shown, np.zeros((0, 4)), features, 3)
