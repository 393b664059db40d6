"""The network in training, and the one for inference that its averaged weights make."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ensemble_eval.errors import InputError
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.models import registry
from ensemble_eval.models.googlenet import GoogLeNetOutputs
from ensemble_eval.models.stages import without_auxiliary_heads
from ensemble_eval.training.config import MemberPlan, Recipe
from ensemble_eval.training.seeds import derived_seed, seeded


def initial_network(recipe: Recipe, plan: MemberPlan, num_classes: int) -> nn.Module:
    """A member's network before training, with auxiliary heads if their loss counts.

    The weights follow from the recipe's `init_seed`, so members of one width start from the same; where the recipe
    names a folder of trained members, all but the last layer's are those of the member there.

    Raises:
        InputError: the folder has no such member, or one of another width.
    """
    with seeded(derived_seed("initial weights", recipe.network.init_seed)):
        network = registry.build(
            recipe.network.arch,
            num_classes,
            auxiliary_heads=recipe.schedule.auxiliary_weight > 0,
            width=plan.width,
            dropout=recipe.network.dropout,
            auxiliary_dropout=recipe.network.auxiliary_dropout,
        )
    if (path := initial_weights(recipe, plan)) is not None:
        begin_with(network, read_weights(path).tensors, path, plan)
    return network


def initial_weights(recipe: Recipe, plan: MemberPlan) -> Path | None:
    """The file of the weights that a member begins with; None where they are fresh."""
    initial = recipe.network.initial
    if initial is None or initial.suffix == ".safetensors":
        return initial
    return initial / f"{plan.name}.safetensors"


def begin_with(network: nn.Module, given: Mapping[str, Tensor], path: Path, plan: MemberPlan) -> None:
    """Take the weights of a trained network, but for its heads and its last layer: they answered something else.

    Args:
        network: of the registry, or a trunk of one, with fresh weights; changed in place.
        given: the tensors.
        path: that they are from, for messages.
        plan: of the member.

    Raises:
        InputError: a tensor is missing, or of another shape.
    """
    fresh = network.state_dict()
    auxiliary = fresh.keys() - without_auxiliary_heads(fresh).keys()
    needed = [name for name in fresh if name not in auxiliary and not name.startswith("fc.")]
    for name in needed:
        if name not in given or given[name].shape != fresh[name].shape:
            raise InputError(
                f"member {plan.name} cannot begin with {path}: {name} is missing there or of another shape; give "
                "the member the architecture and the width of that file"
            )
    network.load_state_dict({name: given[name] for name in needed}, strict=False)


def inference_network(recipe: Recipe, plan: MemberPlan, num_classes: int, trained: nn.Module) -> nn.Module:
    """A network without auxiliary heads that has the weights and buffers of `trained`, in eval mode."""
    with seeded(0):
        network = registry.build(recipe.network.arch, num_classes, width=plan.width)
    network.load_state_dict(without_auxiliary_heads(trained.state_dict()))
    return network.eval()


def refresh_batch_norm(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Take the batch-norm statistics anew, as the equal mean over the batches of `images`.

    Averaged weights have other activations than any iterate, so statistics gathered in training do not fit
    them. Images are normalised floats [B, 3, S, S]; a network without batch norm is left as it is.
    """
    update_bn(images, network)
    network.eval()


def batch_norm_sums(network: nn.Module) -> Tensor:
    """What `refresh_batch_norm` counted over some batches, so that it can be added to that of other batches.

    Returns:
        For each normalisation layer the number of batches, and the sums of their means and variances; float64.
    """
    rows = []
    for layer in _normalisations(network):
        count = layer.num_batches_tracked.double()
        rows += [count.reshape(1), layer.running_mean.double() * count, layer.running_var.double() * count]
    return torch.cat(rows).cpu() if rows else torch.empty(0, dtype=torch.float64)


def set_batch_norm(network: nn.Module, sums: Sequence[Tensor]) -> None:
    """Give a network the statistics of all batches.

    Args:
        network: of the structure of those that the sums were taken from.
        sums: what `batch_norm_sums` gave for each part of the batches.
    """
    layers = _normalisations(network)
    sizes = [size for layer in layers for size in (1, layer.num_features, layer.num_features)]
    totals = torch.split(torch.stack(list(sums)).sum(0), sizes)
    for layer, count, mean, var in zip(layers, totals[::3], totals[1::3], totals[2::3], strict=True):
        if count > 0:
            layer.num_batches_tracked.fill_(int(count))
            layer.running_mean.copy_(mean / count)
            layer.running_var.copy_(var / count)


def _normalisations(network: nn.Module) -> list[Any]:
    """Its batch norms; as Any, because torch's annotations have the statistics perhaps missing."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def training_loss(
    outputs: Tensor | GoogLeNetOutputs, labels: Tensor, auxiliary_weight: float, label_smoothing: float
) -> Tensor:
    """Cross-entropy of the main output plus, weighted, of each auxiliary head (section 5), in float32.

    Args:
        outputs: logits [B, classes], alone or with the heads'.
        labels: class indices [B].
        auxiliary_weight: 0.3 in the paper.
        label_smoothing: 0 in the paper.
    """

    def cross_entropy(logits: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)

    if isinstance(outputs, Tensor):
        return cross_entropy(outputs)
    auxiliary = cross_entropy(outputs.aux1) + cross_entropy(outputs.aux2)
    return cross_entropy(outputs.logits) + auxiliary_weight * auxiliary


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a network runs in `precision`; in float32 it changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
