from pathlib import Path

import pytest
import torch
from tiny_training import bare_task, tiny_recipe
from torch import nn

from ensemble_eval.models.googlenet import GoogLeNetOutputs
from ensemble_eval.training.task import refresh_batch_norm, training_loss


def test_members_start_from_the_same_weights_whatever_their_seed() -> None:
    recipe = tiny_recipe()
    torch.manual_seed(5)
    first = bare_task(recipe, "a").initial_network().state_dict()
    other = bare_task(recipe, "b").initial_network().state_dict()
    assert first.keys() == other.keys()
    assert all(torch.equal(first[name], other[name]) for name in first)
    elsewhere = tiny_recipe(network={"init_seed": 1})
    different = bare_task(elsewhere, "a").initial_network().state_dict()
    assert not torch.equal(first["fc.weight"], different["fc.weight"])


def test_the_wider_member_is_wider_and_has_its_weights_from_the_same_seed() -> None:
    recipe = tiny_recipe()
    narrow, wide = (bare_task(recipe, name).initial_network() for name in "ac")
    again = bare_task(recipe, "c").initial_network()
    assert sum(p.numel() for p in wide.parameters()) > 1.4 * sum(p.numel() for p in narrow.parameters())
    assert torch.equal(wide.state_dict()["fc.weight"], again.state_dict()["fc.weight"])


def test_the_loss_is_the_outputs_plus_three_tenths_of_each_head() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(5, 3, generator=generator) for _ in range(3)]
    labels = torch.tensor([0, 2, 1, 1, 0])

    def by_hand(values: torch.Tensor) -> float:
        return float(-values.softmax(1)[torch.arange(5), labels].log().mean())

    main, aux2, aux1 = map(by_hand, logits)
    loss = training_loss(GoogLeNetOutputs(*logits), labels, 0.3, 0.0)
    assert float(loss) == pytest.approx(main + 0.3 * aux1 + 0.3 * aux2, rel=1e-6)
    assert float(training_loss(logits[0], labels, 0.3, 0.0)) == pytest.approx(main, rel=1e-6)


def test_half_precision_outputs_have_their_loss_in_float32() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = training_loss(logits.bfloat16(), labels, 0.3, 0.1)
    assert loss.dtype == torch.float32
    expected = nn.functional.cross_entropy(logits.bfloat16().float(), labels, label_smoothing=0.1)
    assert torch.equal(loss, expected)


def test_weight_0_trains_without_heads() -> None:
    recipe = tiny_recipe(schedule={"auxiliary_weight": 0})
    names = bare_task(recipe, "a").initial_network().state_dict()
    assert not [name for name in names if name.startswith("aux")]


def test_for_inference_the_heads_are_dropped_and_nothing_else_changes() -> None:
    recipe = tiny_recipe(Path())
    task = bare_task(recipe)
    trained = task.initial_network()
    network = task.inference_network(trained, averaged=False, epoch=0)
    assert not network.training
    assert any(name.startswith("aux1.") for name in trained.state_dict())
    expected = {k: v for k, v in trained.state_dict().items() if not k.startswith(("aux1.", "aux2."))}
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_statistics_are_the_equal_mean_over_batches_and_forget_what_was_there() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d)
    norm(torch.full((2, 2, 3, 3), 100.0))
    batches = [torch.randn(4, 2, 5, 5) * scale + scale for scale in (1.0, 2.0, 3.0)]
    refresh_batch_norm(network, batches)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches])
    variances = torch.stack([batch.var((0, 2, 3), unbiased=True) for batch in batches])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    torch.testing.assert_close(norm.running_var, variances.mean(0))
    assert norm.momentum == 0.1
    assert not network.training
