"""The names of the public API, and what it takes to import them."""

import subprocess
import sys
from pathlib import Path

import pytest

import ensemble_eval as ee

# A contract: whoever changes this list changes what users' scripts may call.
NAMES = [
    "Dataset",
    "Ensemble",
    "EnsembleEvalError",
    "InputError",
    "InputFormat",
    "Member",
    "Outcome",
    "Results",
    "evaluate",
    "open_dataset",
    "open_ensemble",
    "read_results",
    "scores",
]
HEAVY = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "PIL", "rich", "click", "openvino")


def test_the_public_api_has_these_names() -> None:
    assert ee.__all__ == NAMES
    for name in NAMES:
        assert getattr(ee, name).__name__ == name
        assert getattr(ee, name).__module__.startswith("ensemble_eval.")
    assert dir(ee) == sorted([*NAMES, "__version__"])


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Evaluate'"):
        _ = ee.Evaluate


@pytest.mark.processes
@pytest.mark.parametrize(
    ("names", "heavy"),
    [
        ("", ()),
        ("InputError, EnsembleEvalError", ()),
        ("Member, Ensemble, InputFormat", ()),
        ("Dataset, open_dataset", ()),
        ("read_results", ("torch", "torchvision", "openvino")),
        # What only a training, torch's compiler, stored parts or tables need comes when it is needed.
        ("evaluate, scores", ("torchvision", "torch._dynamo", "sympy", "pandas", "pyarrow", "rich", "openvino")),
    ],
)
def test_importing_loads_nothing_heavy(names: str, heavy: tuple[str, ...]) -> None:
    """Without a name nothing; what reads results may load pandas, and never torch; what evaluates the reverse."""
    statement = f"from ensemble_eval import {names}" if names else "import ensemble_eval"
    absent = heavy or HEAVY
    program = f"{statement}; import sys; print(*sorted(set({absent!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.strip() == ""
