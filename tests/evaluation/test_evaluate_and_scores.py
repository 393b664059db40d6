"""The library's own evaluation, with networks and images in memory, against the command on files."""

import io
import os
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from builders import CLASS_NAMES, TINY, colour_classifier, tiny_network
from conftest import Cli
from PIL import Image
from torch import nn

import ensemble_eval as ee
from ensemble_eval.errors import UnreadableImageError

Images = list[tuple[str, int, bytes]]


@pytest.fixture(scope="module")
def images(dataset: Path) -> Images:
    """The pictures of the data set on disk, as a user would hand them in from elsewhere."""
    paths = sorted(dataset.rglob("*.png"))
    return [
        (path.relative_to(dataset).as_posix(), CLASS_NAMES.index(path.parent.name), path.read_bytes())
        for path in paths
    ]


def in_memory(seeds: tuple[int, ...] = (0, 1)) -> ee.Ensemble:
    """The networks of the ensemble on disk, which were never written."""
    return ee.Ensemble(
        [
            ee.Member("ab"[seed], network=tiny_network(seed=seed, width=TINY), input=ee.InputFormat.imagenet())
            for seed in seeds
        ],
        list(CLASS_NAMES),
    )


def sorted_rows(out: Path) -> pd.DataFrame:
    return ee.read_results(out).predictions().sort_values(["image", "member", "crops"], ignore_index=True)


def evaluate(
    ensemble: ee.Ensemble, images: Images, out: Path, progress: Callable[[object], object] | None = None
) -> ee.Outcome:
    return ee.evaluate(
        ensemble, images, crops=10, out=out, device="cpu", backend="torch", save_every=0, progress=progress
    )


def test_networks_and_images_in_memory_give_the_bytes_of_the_command_on_files(
    cli: Cli, ensemble: Path, dataset: Path, images: Images, tmp_path: Path
) -> None:
    command = cli(
        "run", dataset, "--ensemble", ensemble, "--crops", "10", "--device", "cpu", "--out", tmp_path / "files"
    )
    assert command.code == 0
    outcome = evaluate(in_memory(), images, tmp_path / "memory")
    assert outcome.table.read_bytes() == (tmp_path / "files" / "table3.csv").read_bytes()
    pd.testing.assert_frame_equal(
        sorted_rows(tmp_path / "memory"), sorted_rows(tmp_path / "files"), check_exact=True
    )


def test_files_opened_by_the_library_continue_what_the_command_began(
    cli: Cli, ensemble: Path, dataset: Path, tmp_path: Path
) -> None:
    run = ("run", dataset, "--ensemble", ensemble, "--crops", "10", "--device", "cpu", "--out", tmp_path)
    assert cli(*run).code == 0
    members = ee.open_ensemble(ensemble)
    steps: list[object] = []
    outcome = ee.evaluate(
        members,
        ee.open_dataset(dataset, members.classes),
        crops=10,
        out=tmp_path,
        device="cpu",
        backend="torch",
        progress=steps.append,
    )
    assert steps == []
    assert outcome.rows == list(outcome.rows)
    assert cli(*run).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_evaluation_keeps_what_is_finished_and_continues(
    images: Images, tmp_path: Path, interruption: type[BaseException]
) -> None:
    whole = evaluate(in_memory(), images, tmp_path / "whole")
    seen: list[object] = []

    def stop_after_two(step: object) -> None:
        seen.append(step)
        if len(seen) == 2:
            raise interruption

    out = tmp_path / "pieces"
    with pytest.raises(interruption):
        evaluate(in_memory(), images, out, stop_after_two)
    unfinished = ee.read_results(out)
    assert (len(unfinished.images), unfinished.missing) == (2, len(images) - 2)
    rest: list[object] = []
    again = evaluate(in_memory(), images, out, rest.append)
    assert len(rest) == len(images) - 2
    assert again.table.read_bytes() == whole.table.read_bytes()
    pd.testing.assert_frame_equal(sorted_rows(out), sorted_rows(tmp_path / "whole"), check_exact=True)


@pytest.mark.slow
def test_a_changed_weight_is_another_run_and_equal_tensors_are_the_same(images: Images, tmp_path: Path) -> None:
    evaluate(in_memory(), images, tmp_path)
    network = tiny_network(seed=1, width=TINY)
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-3
    changed = ee.Ensemble(
        [in_memory().members[0], ee.Member("b", network=network, input=ee.InputFormat.imagenet())],
        list(CLASS_NAMES),
    )
    with pytest.raises(ee.InputError, match=r"belongs to another run \(member b .*`fresh=True`"):
        evaluate(changed, images, tmp_path)
    steps: list[object] = []
    evaluate(in_memory(), images, tmp_path, steps.append)
    assert steps == []


def test_the_users_network_stays_as_it_was(images: Images, tmp_path: Path) -> None:
    network = tiny_network(seed=0, width=TINY).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modules = [type(module) for module in network.modules()]
    evaluate(
        ee.Ensemble([ee.Member("a", network=network, input=ee.InputFormat.imagenet())], list(CLASS_NAMES)),
        images,
        tmp_path,
    )
    assert network.training
    assert [type(module) for module in network.modules()] == modules
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.slow
def test_scores_in_memory_are_those_that_a_run_stores(images: Images, tmp_path: Path) -> None:
    evaluate(in_memory(), images, tmp_path)
    stored = ee.read_results(tmp_path).predictions(["image", "member", "crops", "scores"])
    by_row = {(row.image, row.member, row.crops): row.scores for row in stored.itertuples()}
    seen = list(ee.scores(in_memory(), images, crops=10, device="cpu", backend="torch"))
    assert sorted(image.id for image in seen) == sorted(name for name, _, _ in images)
    for image in seen:
        for crops, by_member in image.mean_softmax.items():
            for name, scores in zip("ab", by_member, strict=True):
                assert np.array_equal(scores.astype(np.float32), np.asarray(by_row[image.id, name, crops]))


def test_scores_write_nothing_and_leave_no_thread(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = set(threading.enumerate())
    seen = ee.scores(in_memory(), images, crops=1, device="cpu", backend="torch", workers=3)
    next(seen)
    seen.close()
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
    assert list(tmp_path.iterdir()) == []


def test_a_function_needs_a_fingerprint_only_where_results_are_stored(images: Images, tmp_path: Path) -> None:
    function = ee.Member("f", predict=colour_classifier())
    ensemble = ee.Ensemble([function], list(CLASS_NAMES))
    assert len(list(ee.scores(ensemble, images, crops=1, device="cpu"))) == len(images)
    with pytest.raises(ee.InputError, match="fingerprint"):
        evaluate(ensemble, images, tmp_path)
    named = ee.Ensemble([ee.Member("f", predict=colour_classifier(), fingerprint="colours 1")], list(CLASS_NAMES))
    evaluate(named, images, tmp_path)
    other = ee.Ensemble([ee.Member("f", predict=colour_classifier(1), fingerprint="colours 2")], list(CLASS_NAMES))
    with pytest.raises(ee.InputError, match="another run"):
        evaluate(other, images, tmp_path)


def test_unreadable_images_are_listed_or_end_it_and_are_never_left_out_in_silence(
    images: Images, tmp_path: Path
) -> None:
    spoilt = [*images[:2], ("zz.png", 0, b"no image")]
    outcome = evaluate(in_memory(), spoilt, tmp_path)
    assert dict(outcome.unreadable) == {"zz.png": "not an image of a known format"}
    assert outcome.rows[0].images == 2
    with pytest.raises(UnreadableImageError, match=r"zz\.png cannot be evaluated: not an image"):
        list(ee.scores(in_memory(), spoilt, crops=1, device="cpu", backend="torch"))
    told: list[str] = []
    kept = list(
        ee.scores(
            in_memory(),
            spoilt,
            crops=1,
            device="cpu",
            backend="torch",
            on_unreadable=lambda image: told.append(image.id),
        )
    )
    assert (len(kept), told) == (2, ["zz.png"])


def test_labels_beyond_the_classes_are_refused(images: Images, tmp_path: Path) -> None:
    with pytest.raises(ee.InputError, match=r"the label of zz\.png is 7, and the ensemble has 7 classes"):
        evaluate(in_memory(), [*images, ("zz.png", 7, images[0][2])], tmp_path / "out")
    assert not (tmp_path / "out").exists()


WRONG_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"backend": "onnx"}, "`backend` is one of 'auto', 'torch', 'compiled', 'openvino', not 'onnx'"),
    ({"backend": "Torch"}, "`backend` is one of 'auto', 'torch', 'compiled', 'openvino', not 'Torch'"),
    ({"backend": None}, "`backend` is one of 'auto', 'torch', 'compiled', 'openvino', not None"),
    ({"crops": 1.0}, r"`crops` is a whole number, not 1\.0"),
    ({"batch_size": "a"}, "`batch_size` is a whole number, not 'a'"),
    ({"ensemble": 5}, "`ensemble` is an Ensemble, or the path of a manifest or folder, not 5"),
    ({"ensemble": ["mine.toml"]}, "`ensemble` is an Ensemble, or the path of a manifest or folder, not "),
    ({"ensemble": "no.toml"}, r"no\.toml cannot be read"),
    ({"dataset": 5}, r"images in memory are rows of \(id, label, bytes\), not 5"),
    ({"dataset": "no-folder"}, "the data set no-folder does not exist"),
    ({"dataset": [("a.png", "ant", b"")]}, "row 0 of the images: `label` is a class index, a whole number, not"),
]
WHERE_STORED: list[tuple[dict[str, Any], str]] = [
    ({"out": None}, "`out` is a path, not None"),
    ({"out": ""}, "`out` is a path, not ''"),
    ({"progress": 5}, "`progress` is a function, not 5"),
    ({"save_every": "30"}, "`save_every` is a number of seconds, not '30'"),
]


@pytest.mark.parametrize(
    ("stores", "changed", "sentence"),
    [
        *((True, *row) for row in (*WRONG_ARGUMENTS, *WHERE_STORED)),
        *(
            (False, *row)
            for row in (*WRONG_ARGUMENTS, ({"on_unreadable": 5}, "`on_unreadable` is a function, not 5"))
        ),
    ],
)
def test_wrong_arguments_are_refused_before_any_pass(
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stores: bool,
    changed: dict[str, Any],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    passes: list[int] = []

    def predict(crops: torch.Tensor) -> torch.Tensor:
        passes.append(len(crops))
        return torch.full((len(crops), len(CLASS_NAMES)), 1 / len(CLASS_NAMES))

    ensemble = ee.Ensemble([ee.Member("f", predict=predict, fingerprint="1")], list(CLASS_NAMES))
    arguments: dict[str, Any] = {"ensemble": ensemble, "dataset": images, "crops": 1, "device": "cpu", **changed}
    with pytest.raises(ee.InputError, match=sentence):
        ee.evaluate(**arguments) if stores else next(ee.scores(**arguments))
    assert passes == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_paths_are_opened_and_devices_and_precisions_may_be_torchs(
    ensemble: Path, dataset: Path, images: Images, tmp_path: Path
) -> None:
    expected = evaluate(in_memory(), images, tmp_path / "memory").table.read_bytes()
    as_torch: dict[str, Any] = {"device": torch.device("cpu"), "precision": torch.float32}
    for out, paths in (("path", (ensemble, dataset)), ("text", (str(ensemble), str(dataset)))):
        outcome = ee.evaluate(*paths, crops=10, out=tmp_path / out, backend="torch", **as_torch)
        assert outcome.table.read_bytes() == expected
    assert len(list(ee.scores(ensemble, dataset, crops=1, device="cpu", backend="torch"))) == len(images)


@pytest.mark.parametrize(
    ("interpolation", "resampling"),
    [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)],
)
def test_images_are_resized_by_the_interpolation_of_the_ensemble(
    interpolation: Literal["bilinear", "bicubic"], resampling: Image.Resampling
) -> None:
    seen: list[torch.Tensor] = []

    def predict(crops: torch.Tensor) -> torch.Tensor:
        seen.append(crops[0].clone())
        return torch.full((len(crops), 2), 0.5)

    noise = np.random.default_rng(0).integers(256, size=(512, 512, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    ensemble = ee.Ensemble([ee.Member("m", predict=predict)], ["cat", "dog"], interpolation=interpolation)
    list(ee.scores(ensemble, [("a.png", 0, file.getvalue())], crops=1, device="cpu"))
    resized = np.asarray(Image.fromarray(noise).resize((256, 256), resampling).crop((16, 16, 240, 240)))
    difference = np.abs(seen[-1].permute(1, 2, 0).numpy().astype(int) - resized.astype(int))
    # Measured: none. A level is left to other kernels; the two interpolations differ by up to 30 levels.
    assert difference.max() <= 1


def test_what_a_run_would_warn_of_comes_as_a_warning_of_python(images: Images) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(CLASS_NAMES)))
    twice = ee.Ensemble(
        [ee.Member(name, network=network, input=ee.InputFormat.imagenet()) for name in "ab"], list(CLASS_NAMES)
    )
    with pytest.warns(UserWarning, match="members a and b have the same weights"):
        list(ee.scores(twice, images, crops=1, device="cpu", backend="torch"))


@pytest.mark.slow
def test_the_process_is_left_as_it_was(images: Images, tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        return (
            list(warnings.filters),
            dict(os.environ),
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            torch.get_num_threads(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_rng_state().tolist(),
            torch.is_grad_enabled(),
        )

    ensemble = in_memory()
    before = state()
    evaluate(ensemble, images, tmp_path)
    list(ee.scores(ensemble, images, crops=1, device="cpu", backend="torch"))
    assert state() == before
