import contextlib
import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_training import CLASS_NAMES, STEPS_PER_EPOCH, tiny_task, write_pictures
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ensemble_eval.errors import InputError
from ensemble_eval.training.records import EpochDone, EpochRecord
from ensemble_eval.training.task import Site, Task
from ensemble_eval.training.trainer import Trainer

COLOURS = dict(zip(CLASS_NAMES, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training")
    write_pictures(root / "train")
    write_pictures(root / "val", per_class=2)
    return root


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def without_times(history: list[EpochRecord]) -> list[tuple[object, ...]]:
    return [
        (r.epoch, r.steps, r.learning_rate, r.train_loss, r.averaged_iterates, r.val_top1_error, r.last_top1_error)
        for r in history
    ]


def test_the_average_is_the_mean_of_the_iterates_from_its_epoch_on(folder: Path) -> None:
    trainer = Trainer(tiny_task(folder, schedule={"averaging_every_steps": 2}))
    iterates = []
    for event in trainer.run():
        if event.step > STEPS_PER_EPOCH and event.step % 2 == 0:
            iterates.append(weights(trainer.network))
    assert len(iterates) == 4
    for name, parameter in trainer.averaged.module.named_parameters():
        mean = torch.stack([iterate[name].double() for iterate in iterates]).mean(0)
        torch.testing.assert_close(parameter.double(), mean, rtol=1e-5, atol=1e-6)


def test_the_network_for_inference_has_averaged_weights_and_fresh_statistics(folder: Path) -> None:
    trainer = Trainer(tiny_task(folder))
    list(trainer.run())
    network = trainer.inference_network()
    averaged = dict(trainer.averaged.module.named_parameters())
    assert all(torch.equal(value, averaged[name]) for name, value in network.named_parameters())
    again, last = weights(trainer.inference_network()), weights(trainer.network)
    assert_same(weights(network), again)
    assert not torch.equal(again["conv1.bn.running_mean"], last["conv1.bn.running_mean"])


def test_before_the_averaging_the_last_weights_serve_as_they_are(folder: Path) -> None:
    trainer = Trainer(tiny_task(folder))
    list(itertools.islice(trainer.run(), 2))
    expected = {k: v for k, v in weights(trainer.network).items() if not k.startswith("aux")}
    assert_same(weights(trainer.inference_network()), expected)


def test_one_step_is_torchs_sgd_by_hand(folder: Path) -> None:
    """Without dropout: the first two steps against a plain loop over the same batches."""
    parts: dict[str, Any] = {
        "network": {"dropout": 0.0, "auxiliary_dropout": 0.0},
        "schedule": {"weight_decay": 0.01, "momentum": 0.8},
    }
    task = tiny_task(folder, **parts)
    trainer = Trainer(task)
    network = copy.deepcopy(trainer.network).train()
    velocity = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for batch in itertools.islice(task.training_batches(0), 2):
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        outputs = network((batch.images / 255 - mean) / std)
        losses = [functional.cross_entropy(logits, batch.labels) for logits in outputs]
        network.zero_grad()
        torch.autograd.backward(losses[0] + 0.3 * losses[1] + 0.3 * losses[2])
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None
                velocity[name] = 0.8 * velocity[name] + parameter.grad + 0.01 * parameter
                parameter -= 0.02 * velocity[name]
    list(itertools.islice(trainer.run(), 2))
    ours = dict(trainer.network.named_parameters())
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(ours[name], parameter, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "stop_after"), [("float32", 2), ("float32", STEPS_PER_EPOCH), ("bfloat16", 7)]
)
def test_resumed_is_bit_for_bit_uninterrupted(
    folder: Path, tmp_path: Path, precision: str, stop_after: int
) -> None:
    def task(workers: int) -> Task:
        return tiny_task(folder, workers=workers, precision=precision)

    whole = Trainer(task(workers=0))
    list(whole.run())

    stopped = Trainer(task(workers=0))
    list(itertools.islice(stopped.run(), stop_after))
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    del stopped
    torch.manual_seed(stop_after)
    resumed = Trainer(task(workers=1))
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [event.step for event in resumed.run()] == list(range(stop_after + 1, 3 * STEPS_PER_EPOCH + 1))

    assert_same(weights(whole.network), weights(resumed.network))
    assert_same(weights(whole.averaged), weights(resumed.averaged))
    assert_same(weights(whole.inference_network()), weights(resumed.inference_network()))
    assert without_times(whole.history) == without_times(resumed.history)


def test_a_row_for_each_epoch_with_errors_where_they_are_due(folder: Path) -> None:
    trainer = Trainer(tiny_task(folder, validate_every_epochs=2))
    events = list(trainer.run())
    assert [event.step for event in events] == list(range(1, 13))
    rows = [event.record for event in events if isinstance(event, EpochDone)]
    assert rows == trainer.history
    assert [(row.epoch, row.steps, row.averaged_iterates) for row in rows] == [(0, 4, 0), (1, 8, 4), (2, 12, 8)]
    assert [row.val_top5_error is not None for row in rows] == [False, True, True]
    assert [row.last_top1_error is not None for row in rows] == [False, True, True]
    for number, row in enumerate(rows):
        assert row.train_loss == pytest.approx(sum(e.loss for e in events[4 * number : 4 * number + 4]) / 4)
        assert row.images_per_second == pytest.approx(16 / row.seconds)


def test_the_same_seed_trains_the_same_member_and_dropout_is_drawn_anew_each_step(folder: Path) -> None:
    def losses(**parts: Any) -> list[float]:
        return [event.loss for event in itertools.islice(Trainer(tiny_task(folder, **parts)).run(), 2)]

    assert losses() == losses()
    assert losses() != losses(network={"dropout": 0.0, "auxiliary_dropout": 0.0})


@pytest.mark.slow
def test_classes_that_differ_in_colour_are_learnt(tmp_path: Path) -> None:
    """With a margin: in 16 trainings whose first weights differed by a millionth, each label led by 4.2 or more.

    That is of logits. Grain keeps the variances that normalisations divide by from zero, and crops of 64 pixels
    leave the last maps more than one place. Plain colours in crops of 32 pixels led by as little as 0.9.
    """
    for split, name in itertools.product(("train", "val"), CLASS_NAMES):
        (tmp_path / split / name).mkdir(parents=True)
        for index in range(4):
            grain = np.random.default_rng((len(split), CLASS_NAMES.index(name), index)).normal(0, 20, (40, 40, 3))
            pixels = np.clip(np.array(COLOURS[name]) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    parts: dict[str, Any] = {
        "network": {"dropout": 0.0, "auxiliary_dropout": 0.0, "crop_size": 64},
        "sampling": {"brightness": 0, "contrast": 0, "saturation": 0, "lighting": 0},
        "schedule": {"epochs": 60, "batch_size": 12, "averaging_start_epoch": 50},
        "members": [{"name": "a", "seed": 2, "width": 0.1}],
        "validate_every_epochs": 60,
    }
    trainer = Trainer(tiny_task(tmp_path, **parts))
    list(trainer.run())
    assert trainer.history[-1].val_top1_error == 0
    assert trainer.history[-1].train_loss < 0.4 * trainer.history[0].train_loss


def test_a_loss_that_is_not_finite_stops_at_its_step_and_leaves_the_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny_task(folder))
    steps = trainer.run()
    list(itertools.islice(steps, 5))
    before = weights(nn.ModuleDict({"fc": trainer.network.get_submodule("fc")}))
    monkeypatch.setattr(Task, "loss", lambda *_: torch.tensor(math.nan, requires_grad=True))
    with pytest.raises(InputError, match=r"member a: the loss became NaN or infinite at step 6 \(epoch 1\)"):
        next(steps)
    assert_same(before, weights(nn.ModuleDict({"fc": trainer.network.get_submodule("fc")})))


def test_a_state_with_a_weight_that_is_not_finite_is_not_given_out(folder: Path) -> None:
    trainer = Trainer(tiny_task(folder))
    next(iter(trainer.run()))
    with torch.no_grad():
        next(trainer.network.parameters())[0, 0, 0, 0] = math.inf
    with pytest.raises(InputError, match="a weight became NaN or infinite at step 1"):
        trainer.state_dict()


def test_a_batch_of_which_nothing_can_be_read_stops_with_a_reason(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train")
    write_pictures(tmp_path / "val", per_class=1)
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="not one image of step 1 could be read"):
        next(iter(Trainer(tiny_task(tmp_path)).run()))


def test_too_few_images_for_a_batch_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="batch_size is 19, and there are only 18 training images"):
        tiny_task(folder, schedule={"batch_size": 19})


@pytest.fixture
def products_in_bfloat16() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


class _Precisions(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Notes how torch was allowed to compute each convolution and product in float32."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.seen: dict[str, set[object]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        backends: Any = torch.backends
        if func.overloadpacket.__name__ in ("convolution", "convolution_backward", "addmm", "mm"):
            allowed = (backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision)
            self.seen.setdefault(func.overloadpacket.__name__, set()).add(allowed)
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("products_in_bfloat16")
def test_float32_is_float32_forwards_and_backwards_and_in_the_validation(folder: Path) -> None:
    with _Precisions() as precisions:
        trainer = Trainer(tiny_task(folder, schedule={"epochs": 1, "averaging_start_epoch": 0}))
        list(trainer.run())
    assert precisions.seen.keys() == {"convolution", "convolution_backward", "addmm", "mm"}
    assert set().union(*precisions.seen.values()) == {("ieee", "ieee")}
    assert torch.get_float32_matmul_precision() == "medium"


def test_no_step_reads_from_the_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's `meta` device there is nothing to be read: whoever tries, fails."""
    task = tiny_task(folder, schedule={"averaging_start_epoch": 0})
    task = dataclasses.replace(task, site=dataclasses.replace(task.site, device=torch.device("meta")))
    # torch's autocast knows no such device.
    monkeypatch.setattr(Task, "_autocast", lambda *_: contextlib.nullcontext())
    trainer = Trainer(task)
    events = list(itertools.islice(trainer.run(), 3))
    assert [event.step for event in events] == [1, 2, 3]
    assert int(trainer.averaged.n_averaged) == 3
    with pytest.raises(RuntimeError, match="meta"):
        _ = events[-1].loss


class _Unhurried(Site):
    """A CPU that is treated as a device whose values are read now and then."""

    @property
    def reading_is_free(self) -> bool:
        return False


def test_elsewhere_a_loss_that_is_not_finite_is_found_where_something_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_task(folder)
    task = dataclasses.replace(task, site=_Unhurried(task.site.device, task.site.processes, 0))
    trainer = Trainer(task)
    steps = trainer.run()
    list(itertools.islice(steps, 5))
    loss = Task.loss
    monkeypatch.setattr(Task, "loss", lambda *given: loss(*given) * math.nan)
    assert next(steps).step == 6
    sentence = r"member a: the loss became NaN or infinite at step 6 \(epoch 1\)"
    with pytest.raises(InputError, match=sentence):
        trainer.state_dict()
    next(steps)
    with pytest.raises(InputError, match=sentence):
        next(steps)
