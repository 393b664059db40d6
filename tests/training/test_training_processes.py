import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import Cli
from tiny_training import write_recipe

from ensemble_eval.errors import InputError
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.training.processes import Processes, joined_processes

pytestmark = pytest.mark.processes

COMMAND = Path(sys.executable).with_name("ensemble-eval")


@pytest.mark.slow
@pytest.mark.timeout(900)  # three starts of torch: on a busy machine each takes its time
def test_two_processes_train_what_one_trains_with_the_same_batches(cli: Cli, tmp_path: Path) -> None:
    """On a network without batch norm and dropout, where only the order of the sums differs."""
    recipe = write_recipe(
        tmp_path,
        network={"arch": "googlenet-paper", "dropout": 0.0},
        schedule={"auxiliary_weight": 0, "epochs": 2, "learning_rate": 0.05},
    )
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(COMMAND))
    words = ["train", recipe, "--member", "a", "--workers", 0, "--out"]
    command = [*torchrun, *map(str, words), str(tmp_path / "two")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert cli(*words, tmp_path / "one").code == 0
    one, two = (read_weights(tmp_path / name / "a.safetensors").tensors for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5)
    rows = [(tmp_path / name / "a.csv").read_text().splitlines()[-1].split(",") for name in ("one", "two")]
    assert float(rows[0][3]) == pytest.approx(float(rows[1][3]), rel=1e-4)
    assert done.stderr.count("a: 2 epochs, 8 steps") == 1


def test_without_a_launcher_there_is_one_process() -> None:
    with joined_processes({}) as processes:
        assert processes == Processes()
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


# The first process, which joins and then does nothing any more.
SILENT = """
import time
from torch import distributed

distributed.init_process_group("gloo")
print("joined", flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_a_process_that_waits_for_one_that_does_not_answer_can_be_stopped(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    with socket.create_server(("localhost", 0)) as server:
        port = str(server.getsockname()[1])
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    first, second = (os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01")
    program = "from ensemble_eval.cli import main, train; train._STOPPING_SECONDS = 0.5; main()"
    words = ["train", recipe, "--out", tmp_path / "out", "--workers", 0]
    with (
        subprocess.Popen([sys.executable, "-c", SILENT], stdout=subprocess.PIPE, env=first) as silent,
        subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)], stderr=subprocess.PIPE, text=True, env=second
        ) as waiting,
    ):
        try:
            assert silent.stdout is not None
            assert silent.stdout.readline() == b"joined\n"
            time.sleep(3)  # until the second one waits for the first one's word
            told = time.monotonic()
            waiting.terminate()
            _, said = waiting.communicate(timeout=60)
            taken = time.monotonic() - told
        finally:
            waiting.kill()
            silent.kill()
    assert waiting.returncode == 128 + signal.SIGTERM
    assert "stopped, although something did not answer; continue from the last saved step with: " in said
    assert taken < 20
