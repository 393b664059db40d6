"""A run says after a few hundred images which member is at chance."""

from pathlib import Path

import pytest
import torch
from builders import CLASS_NAMES, encoded
from PIL import Image
from torch import Tensor

import ensemble_eval as ee


def _by_grey(shift: int) -> ee.Member:
    """Knows the classes by their greys; `shift` puts them in another order."""

    def predict(crops: Tensor) -> Tensor:
        grey = (crops[:, 0, 100, 100].float() / 30).round().long()
        return torch.softmax(9 * torch.nn.functional.one_hot((grey + shift) % 7, 7).float(), dim=1)

    return ee.Member(f"shifted-{shift}", predict=predict, fingerprint=f"by grey {shift}")


@pytest.mark.slow
@pytest.mark.parametrize("until_decided", [False, True])
def test_the_member_whose_classes_are_in_another_order_is_named_once(tmp_path: Path, until_decided: bool) -> None:
    pictures = [encoded(Image.new("RGB", (32, 32), (30 * label,) * 3)) for label in range(7)]
    images = [(f"{index}.png", index % 7, pictures[index % 7]) for index in range(310)]
    ensemble = ee.Ensemble([_by_grey(0), _by_grey(2)], list(CLASS_NAMES))
    with pytest.warns(UserWarning, match="member shifted-2 is right on 0 of the first 300 images") as warned:
        ee.evaluate(ensemble, images, crops=1, out=tmp_path / "out", device="cpu", until_decided=until_decided)
    assert len(warned) == 1
    assert "classes are in another order" in str(warned[0].message)
