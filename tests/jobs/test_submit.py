"""`submit` without a Slurm: the script that it writes, and what it refuses."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=googlenets
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=6
#SBATCH --time=0:30:00
#SBATCH --partition=gpu
#SBATCH --account=vision
#SBATCH --output='my results/googlenets-%j.log'
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --requeue

ensemble=seven.toml
out='my results'
job=$SLURM_JOB_ID

# When the job is told to stop (scancel, preemption), the ranks write what is finished. Before the time limit,
# Slurm sends USR1. Then the job also goes back to the queue, and continues where it stopped.
stop() { scancel --quiet --signal=TERM "$job"; }
trap stop TERM
trap 'requeue=yes; stop' USR1

srun --kill-on-bad-exit=0 --wait=0 --ntasks-per-node=8 --cpus-per-task=6 \\
    PYTHON -m ensemble_eval run val --crops 144 --workers 5 --precision bfloat16 \\
    --ensemble "$ensemble" --out "$out" &
step=$!
# A signal ends a wait, not the step.
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"; code=$?
# In a preemption with a grace time, only the ranks get a signal, and they end before Slurm would requeue the job.
now=$(scontrol --oneliner show job "$job")
if [ "$code" -eq 143 ] && [[ $now == *JobState=RUNNING* && $now == *PreemptTime=[0-9]* ]]; then requeue=yes; fi
if [ "$code" -ne 0 ] && [ -n "${requeue:-}" ]; then scontrol requeue "$job"; fi
exit $code
"""


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands below name, as far as `submit` looks at it."""
    monkeypatch.chdir(tmp_path)
    for folder in ("val", "manifests", "other"):
        (tmp_path / folder).mkdir()
    for name in ("seven", "a", "b", "c", "manifests/default", "other/seven"):
        (tmp_path / f"{name}.toml").touch()


EVALUATION = ("val", "--ensemble", "seven.toml", "--out", "my results")


def test_a_dry_run_prints_a_script_that_a_person_can_read(cli: Cli) -> None:
    job = "--nodes 2 --gpus-per-node 8 --cpus-per-rank 6 --time 0:30:00 --partition gpu --account vision"
    run = "--crops 144 --workers 5 --precision bfloat16 --job-name googlenets --dry-run"
    printed = cli("submit", *EVALUATION, *shlex.split(job), *shlex.split(run))
    assert printed.code == 0
    assert printed.out == SCRIPT.replace("PYTHON", shlex.quote(sys.executable))


def test_the_script_keeps_its_paths_where_the_terminal_has_only_ascii(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ensemble_eval", "submit", "val", "--out", "größte", "--dry-run"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    printed = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=True)
    assert "out=größte\n" in printed.stdout.decode() or "out='größte'\n" in printed.stdout.decode()


def test_one_rank_of_four_cores_for_an_hour_is_asked_for_unless_more_is(cli: Cli) -> None:
    lines = cli("submit", *EVALUATION, "--dry-run").out.splitlines()
    for asked in ("nodes=1", "ntasks-per-node=1", "cpus-per-task=4", "time=1:00:00"):
        assert f"#SBATCH --{asked}" in lines


def test_the_log_is_where_the_job_was_submitted_if_the_results_are_in_a_bucket(cli: Cli) -> None:
    lines = cli(
        "submit", "val", "--ensemble", "seven.toml", "--out", "s3://data/results", "--dry-run"
    ).out.splitlines()
    assert "#SBATCH --output=ensemble-eval-%j.log" in lines
    assert "out=s3://data/results" in lines


def test_what_is_passed_on_and_set_up_is_quoted(cli: Cli) -> None:
    passed = ("--sbatch", "--constraint=h100|a100", "--sbatch", "--exclusive", "--sbatch", "--comment=a # b")
    lines = cli("submit", *EVALUATION, *passed, "--setup", "module load 'cuda'", "--dry-run").out.splitlines()
    directives = [line for line in lines if line.startswith("#SBATCH")]
    assert directives == lines[1 : len(directives) + 1]
    assert directives[-3:] == [
        "#SBATCH --constraint='h100|a100'",
        "#SBATCH --exclusive",
        "#SBATCH --comment='a # b'",
    ]
    [setup] = [line for line in lines if "module" in line]
    assert shlex.split(setup) == ["eval", "module load 'cuda'", "||", "exit", "1"]
    assert lines.index(setup) < lines.index("trap stop TERM")


def test_in_a_container_the_ranks_run_the_images_own_program(cli: Cli) -> None:
    image = "registry.example#vision/ensemble eval:1"
    mounts = ("--mount", "/data:/data", "--mount", "/home/me/my results:/out")
    elsewhere = ("submit", "/in/the/image", "--ensemble", "/too.toml", "--container-image", image, *mounts)
    script = cli(*elsewhere, "--dry-run").out
    step = script[script.index("srun ") : script.index(" &\n")].replace("\\\n", " ")
    assert shlex.split(step) == [
        *("srun", "--kill-on-bad-exit=0", "--wait=0", "--ntasks-per-node=1", "--cpus-per-task=4"),
        f"--container-image={image}",
        "--container-mounts=/data:/data,/home/me/my results:/out",
        *("ensemble-eval", "run", "/in/the/image", "--ensemble", "$ensemble", "--out", "$out"),
    ]


def test_an_array_has_a_folder_for_each_ensemble(cli: Cli) -> None:
    arrays = ("--array", "b.toml", "--array", "c.toml", "--no-requeue", "--ranks", "4")
    lines = cli("submit", *EVALUATION, *arrays, "--dry-run").out.splitlines()
    assert "#SBATCH --array=0-2" in lines
    assert "#SBATCH --output='my results/ensemble-eval-%A-%a.log'" in lines
    assert "#SBATCH --no-requeue" in lines
    assert "#SBATCH --signal=B:TERM@120" in lines
    assert "job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" in lines
    assert "ensembles=(seven.toml b.toml c.toml)" in lines
    assert "outs=('my results/seven' 'my results/b' 'my results/c')" in lines
    assert "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}" in lines


def test_options_from_the_environment_reach_the_ranks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_EVAL_SUBMIT_CROPS", "10")
    monkeypatch.setenv("ENSEMBLE_EVAL_SUBMIT_UNTIL_DECIDED", "1")
    monkeypatch.setenv("ENSEMBLE_EVAL_SUBMIT_TRUST_PYTHON", "0")
    script = cli("submit", *EVALUATION, "--dry-run").out
    assert "ensemble_eval run val --crops 10 --until-decided \\" in script


@pytest.mark.parametrize("limit", ["4", "4:59", "0:04:59", "0-0:4", "0-00:04:59"])
def test_a_limit_that_leaves_no_time_to_work_is_refused(cli: Cli, limit: str) -> None:
    refused = cli("submit", *EVALUATION, "--time", limit, "--dry-run")
    assert refused.code == 2
    assert f"--time {limit} leaves no time to work" in refused.err


@pytest.mark.parametrize("limit", ["abc", "1:2:3:4", "1h", "-5", "1-", "1-2:3:4:5", "1.5", "90 ", "٩٠"])
def test_a_limit_that_sbatch_would_not_read_is_refused(cli: Cli, limit: str) -> None:
    refused = cli("submit", *EVALUATION, "--time", limit, "--dry-run")
    assert (refused.code, refused.out) == (2, "")
    assert (
        f"error: --time {limit} is not a time limit; write minutes, hours:minutes:seconds or days-" in refused.err
    )


ONE_LINE = "contains a line break or another control character; write it on one line"
NO_LIMIT = ["0", "-1", "UNLIMITED", "unlimited", "INFINITE"]


@pytest.mark.parametrize("limit", ["5", "5:00", "0:05:00", "0-1", "1-0", "0-0:05:00", "1-2:3", *NO_LIMIT])
def test_any_other_limit_is_slurms_to_judge(cli: Cli, limit: str) -> None:
    assert f"#SBATCH --time={limit}\n" in cli("submit", *EVALUATION, "--time", limit, "--dry-run").out


def test_the_script_goes_to_sbatch(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/sh\n/bin/cat > '{tmp_path}/script'\necho Submitted batch job 17\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(sbatch.parent))
    out = tmp_path / "out"
    submitted = cli("submit", "val", "--out", out)
    assert submitted.code == 0
    assert submitted.out.splitlines() == [
        "Submitted batch job 17",
        f"follow it with: tail -F {out}/ensemble-eval-17.log",
        f"or with:        ensemble-eval status {out}",
    ]
    assert (tmp_path / "script").read_text() == cli("submit", "val", "--out", out, "--dry-run").out
    assert out.is_dir()  # Slurm would not make it for the log

    array = cli("submit", "val", "--ensemble", "a.toml", "--array", "b.toml", "--out", out)
    assert array.out.splitlines()[1:] == [
        f"follow it with: tail -F {out}/ensemble-eval-17-*.log",
        f"or with:        ensemble-eval status {out}/a",
        f"or with:        ensemble-eval status {out}/b",
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "there is no sbatch on this machine; submit from one that has it, or use --dry-run"),
        (["--fresh"], "--fresh would start over at every requeue; remove my results and submit without it"),
        (["--array", "other/seven.toml"], "two ensembles of the array have the same file name"),
    ],
)
def test_what_cannot_be_submitted_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = cli("submit", *EVALUATION, *options)
    assert refused.code == 2
    assert sentence in refused.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nowhere", "--ensemble", "seven.toml"), "the data set nowhere does not exist; check the path"),
        (("val", "--ensemble", "no.toml"), "the ensemble no.toml does not exist; check the path"),
        (("val", "--array", "no.toml"), "the ensemble no.toml does not exist; check the path"),
        (("val", "--labels", "no.csv"), "the file of labels no.csv does not exist; check the path"),
        (("val", "--timeout", "9"), "--timeout 9 must be longer than --save-every 30"),
        (("val", "--seed", "3"), "--seed draws the images of --sample; give both, or leave it out"),
        (("val", "--crops", "12"), "there is no scheme of 12 crops in googlenet; choose one of 1, 10, 144"),
        (("val", "--job-name", "a\n#SBATCH --nodes=9"), f"--job-name {ONE_LINE}"),
        (("val", "--account", "a\rb"), f"--account {ONE_LINE}"),
        (("val", "--out", "a\nb"), f"--out {ONE_LINE}"),
        (("val", "--sbatch", "--qos=a\n#SBATCH --nodes=9"), f"--sbatch {ONE_LINE}"),
        (("val", "--setup", "true\nfalse"), f"--setup {ONE_LINE}"),
        (("val", "--partition", "a\u2028b"), f"--partition {ONE_LINE}"),
        (
            ("val", "--sbatch", "-C h100"),
            "--sbatch -C h100 is not a single option of sbatch; write it as --NAME=VALUE",
        ),
        (
            ("val", "--sbatch", "--qos a"),
            "--sbatch --qos a is not a single option of sbatch; write it as --NAME=VALUE",
        ),
        (
            ("val", "--sbatch", "--signal=TERM@9"),
            "--sbatch --signal=TERM@9 would override an option that submit sets; leave it out",
        ),
        (
            ("val", "--sbatch", "--no-requeue"),
            "--sbatch --no-requeue would override an option that submit sets; leave it out",
        ),
        (("val", "--mount", "a:/b"), "--mount needs --container-image; give both, or leave out --mount"),
        (("val", "--mount", "/data"), "--mount is of the form SOURCE:PATH with an absolute PATH, not '/data'"),
        (("val", "--timeout", "nan"), "--timeout is a number of seconds, not nan"),
        (("val", "--save-every", "inf"), "--save-every is a number of seconds, not inf"),
    ],
)
def test_what_a_job_could_not_use_is_refused_before_it_queues(
    cli: Cli, words: tuple[str, ...], sentence: str
) -> None:
    refused = cli("submit", *words, "--dry-run")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"error: {sentence}\n"


def test_what_sbatch_refuses_is_passed_on(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = cli("submit", "val", "--out", tmp_path / "out", "--partition", "none")
    assert refused.code == 2
    assert refused.err == "error: sbatch refuses the job: sbatch: error: invalid partition\n"
