import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import write_recipe

from ensemble_eval.errors import InputError
from ensemble_eval.members.weights import load_state_dict
from ensemble_eval.training.processes import Processes, joined_processes

pytestmark = pytest.mark.processes

COMMAND = Path(sys.executable).with_name("ensemble-eval")


def train(recipe: Path, out: Path, *launcher: str) -> str:
    command = [*launcher, str(COMMAND), "train", str(recipe), "--out", str(out), "--member", "a", "--workers", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)  # five starts of torch: on a busy machine each takes its time
def test_two_processes_train_what_one_trains_with_the_same_batches(tmp_path: Path) -> None:
    """On a network without batch norm and dropout, where only the order of the sums differs."""
    recipe = write_recipe(
        tmp_path,
        network={"arch": "googlenet-paper", "dropout": 0.0},
        schedule={"auxiliary_weight": 0, "epochs": 2, "learning_rate": 0.05},
    )
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    told = train(recipe, tmp_path / "two", *torchrun)
    train(recipe, tmp_path / "one", sys.executable)
    one, two = (load_state_dict(tmp_path / name / "a.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5)
    rows = [(tmp_path / name / "a.csv").read_text().splitlines()[-1].split(",") for name in ("one", "two")]
    assert float(rows[0][3]) == pytest.approx(float(rows[1][3]), rel=1e-4)
    assert told.count("a: 2 epochs, 8 steps") == 1


def test_without_a_launcher_there_is_one_process() -> None:
    with joined_processes({}) as processes:
        assert processes == Processes(rank=0, world=1)
        assert processes.gather("x") == ["x"]
        processes.wait()
        network = torch.nn.Linear(1, 1)
        assert processes.parallel(network, torch.device("cpu")) is network


def test_half_an_environment_is_refused() -> None:
    with (
        pytest.raises(InputError, match=r"WORLD_SIZE=2 without RANK.*start with torchrun, or unset"),
        joined_processes({"WORLD_SIZE": "2"}),
    ):
        pass
