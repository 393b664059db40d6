"""Other frameworks' variants give the same with OpenVINO as with torch, and share no converted model."""

import numpy as np
import pytest
import torch
from builders import CLASS_NAMES, TINY, randomise

from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.models.registry import build

pytest.importorskip("openvino")
CPU = torch.device("cpu")
ARCHITECTURES = ("googlenet", "googlenet-tensorflow", "googlenet-paper", "googlenet-paddle")


@pytest.mark.slow
def test_openvino_and_torch_agree_on_every_variant() -> None:
    crops = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    by_torch, by_openvino = (
        PredictMaker(name, len(CLASS_NAMES), CPU, "float32") for name in ("torch", "openvino")
    )
    expected = {}
    for arch in ARCHITECTURES:
        member = Member(arch, network=torch.nn.Identity(), input=InputFormat.imagenet())

        def network(arch: str = arch) -> torch.nn.Module:
            return randomise(build(arch, len(CLASS_NAMES), width=TINY), seed=0)

        expected[arch] = by_torch(member, network())(crops).numpy()
        np.testing.assert_allclose(by_openvino(member, network())(crops).numpy(), expected[arch], atol=2e-5)
    # TensorFlow's padding is seen in the outputs, so that a model shared with torchvision's would have shown
    # above.
    assert np.abs(expected["googlenet"] - expected["googlenet-tensorflow"]).max() > 1e-3
