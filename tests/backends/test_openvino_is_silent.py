"""OpenVINO converts and runs networks and reports to nobody, in real processes that are watched."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from outgoing import Outgoing, watched

pytest.importorskip("ensemble_eval.backends.openvino", reason="the extra [cpu] is not installed")
pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
CONVERT_AND_RUN = """
from pathlib import Path

import torch

from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.members.ensemble import Member
from ensemble_eval.models.registry import build

member = Member("a", arch="googlenet", weights=Path("unused.safetensors"))
maker = PredictMaker("openvino", 7, torch.device("cpu"), "float32")
predict = maker(member, build("googlenet", 7, width=0.05).eval())
assert predict(torch.zeros(2, 3, 224, 224, dtype=torch.uint8)).shape == (2, 7)
print("ran")
"""


def _run(program: str, outgoing: Outgoing) -> None:
    command = [sys.executable, "-c", program]
    finished = subprocess.run(
        command, env=outgoing.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (finished.returncode, finished.stdout) == (0, "ran\n"), finished.stderr


@pytest.mark.slow
def test_a_consent_that_somebody_gave_before_is_not_made_use_of(tmp_path: Path) -> None:
    outgoing = watched(tmp_path)
    (outgoing.home / "intel").mkdir()
    (outgoing.home / "intel" / "openvino_telemetry").write_text("1")
    _run(CONVERT_AND_RUN, outgoing)
    assert outgoing.attempts() == []
    assert outgoing.left_at_home() == ["intel", "intel/openvino_telemetry"]
    assert (outgoing.home / "intel" / "openvino_telemetry").read_text() == "1"


@pytest.mark.slow
def test_only_the_import_is_reported_where_somebody_else_imported_openvino_before(tmp_path: Path) -> None:
    """It also shows that the watch sees what OpenVINO by itself sends."""
    outgoing = watched(tmp_path)
    _run(f"import openvino\n{CONVERT_AND_RUN}", outgoing)
    assert len(outgoing.attempts()) == 1


def test_no_other_module_imports_openvino() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("benchmarks", "ensemble_eval", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if any(name.split(".")[0] == "openvino" for name in _imported(node))
    }
    assert importers == {"ensemble_eval/backends/openvino.py"}


def _imported(node: ast.AST) -> list[str]:
    """The modules that a node of a syntax tree imports by name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    return []


# Three of four processes hung, so it forks several, none of which has read a constant.
FIRST_USE = """
import os, sys, threading
from faulthandler import dump_traceback_later

from ensemble_eval.backends.openvino import openvino


def read(constant, together):
    together.wait()
    constant.data


for _ in range(4):
    child = os.fork()
    if child == 0:
        break
    assert os.waitpid(child, 0)[1] == 0
else:
    sys.exit()
dump_traceback_later(20, exit=True)
sys.setswitchinterval(1e-6)
constants = [openvino.op.Constant(openvino.Type.f32, openvino.Shape([1]), [1.0]) for _ in range(4)]
together = threading.Barrier(4)
threads = [threading.Thread(target=read, args=[constant, together]) for constant in constants]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
os._exit(0)
"""


@pytest.mark.slow
def test_threads_that_read_a_constant_first_do_not_wait_for_each_other_for_good() -> None:
    subprocess.run([sys.executable, "-c", FIRST_USE], check=True, capture_output=True)
