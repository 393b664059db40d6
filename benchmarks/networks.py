"""Write an ensemble of random GoogLeNets: `python -m benchmarks.networks FOLDER --members 7`.

A program of its own, because the peak memory of a process that starts others is counted as theirs too.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.manifest import save_weights, write_manifest
from ensemble_eval.models.registry import build

CLASSES = 1000


def write_ensemble(folder: Path, members: int, width: float) -> Path:
    """Write `members` GoogLeNets of 1000 classes with different random weights, and their manifest.

    Args:
        folder: is made, and takes all files.
        members: how many.
        width: multiplies every channel count; 1.0 is the paper's.

    Returns:
        The path of the manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(f"class-{index:04}" for index in range(CLASSES))
    classes = ClassList(str(folder / "classes.txt"), CLASSES, names)
    Path(classes.source).write_text("".join(f"{name}\n" for name in names))
    described = []
    for index in range(members):
        name = f"random-{index}"
        path = folder / f"{name}.safetensors"
        member = Member(name, arch="googlenet", weights=path, options={"width": width})
        save_weights(path, random_network(index, width).state_dict(), member, classes)
        described.append(member)
    manifest = folder / "ensemble.toml"
    write_manifest(manifest, Ensemble(described, classes, "random"))
    return manifest


@torch.no_grad()
def random_network(seed: int, width: float) -> nn.Module:
    """A GoogLeNet whose activations keep their size from layer to layer, as a trained one's do.

    The speed of some kernels depends on the values: zeros, denormals and infinities are not alike.
    """
    network = build("googlenet", CLASSES, width=width)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # He's: the variance of what a ReLU follows is kept.
            _draw(module.weight, (2 / module.weight[0].numel()) ** 0.5, generator)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            _draw(module.bias, 0.1, generator)
            _draw(module.running_mean, 0.1, generator)
            module.running_var.copy_(0.8 + 0.4 * torch.rand(module.num_features, generator=generator))
    # Last, so that the draws before it are those of earlier versions. A trained network's bias is not 0.
    _draw(network.get_parameter("fc.bias"), 0.1, generator)
    return network.eval()


def _draw(tensor: Tensor, std: float, generator: torch.Generator) -> None:
    tensor.copy_(torch.randn(tensor.shape, generator=generator) * std)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--members", type=int, default=7)
    parser.add_argument("--width", type=float, default=1.0)
    arguments = parser.parse_args()
    print(write_ensemble(arguments.folder, arguments.members, arguments.width))


if __name__ == "__main__":
    main()
