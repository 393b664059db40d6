import pytest

from ensemble_eval.errors import InputError
from ensemble_eval.jobs.process import Process, Role, find_process, shard_positions

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "run"}
SRUN = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


def test_a_process_without_a_launcher_is_alone_and_speaks() -> None:
    process = find_process({})
    assert process == Process()
    assert (process.rank, process.world_size, process.local_rank, process.local_world_size) == (0, 1, 0, 1)
    assert process.role is Role.ALONE
    assert process.is_reporting
    assert not process.launched


def test_torchrun_gives_rank_and_world() -> None:
    process = find_process(TORCHRUN)
    assert (process.rank, process.world_size, process.local_rank, process.role) == (3, 8, 1, Role.RANK)
    assert not process.is_reporting


def test_torchrun_inside_a_job_step_counts_and_not_the_step() -> None:
    assert find_process({**SRUN, **TORCHRUN}).world_size == 8


def test_a_worker_of_ours_leaves_the_tables_to_its_parent() -> None:
    process = find_process({**TORCHRUN, "RANK": "0", "ENSEMBLE_EVAL_PARENT": "42"})
    assert (process.role, process.parent) == (Role.WORKER, 42)
    assert not process.is_reporting


def test_srun_gives_rank_and_world() -> None:
    process = find_process(SRUN)
    assert (process.rank, process.world_size, process.local_rank, process.role) == (2, 4, 0, Role.RANK)


POD = {"JOB_COMPLETION_INDEX": "2", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "job"}


def test_kubernetes_gives_the_index_of_a_pod_and_submit_the_number_of_pods() -> None:
    process = find_process(POD)
    assert (process.rank, process.world_size, process.role, process.session) == (2, 4, Role.POD, "job")
    # A pod has its devices and processors to itself.
    assert (process.local_rank, process.local_world_size, process.sharing, process.parent) == (0, 1, 1, None)
    assert process.launched
    assert not process.is_reporting
    assert find_process({**POD, "JOB_COMPLETION_INDEX": "0"}).is_reporting
    assert (
        find_process({name: value for name, value in POD.items() if name != "TORCHELASTIC_RUN_ID"}).session == ""
    )


def test_a_job_of_one_pod_is_one_process_that_may_start_others() -> None:
    assert not find_process({**POD, "WORLD_SIZE": "1", "JOB_COMPLETION_INDEX": "0"}).launched


def test_torchrun_in_a_pod_counts_and_not_the_pod() -> None:
    assert find_process({**POD, **TORCHRUN}).role is Role.RANK
    assert find_process({**POD, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}).world_size == 1
    with pytest.raises(InputError, match=r"WORLD_SIZE=4 without RANK.*start with torchrun, or unset them"):
        find_process(POD, torchrun_only=True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"WORLD_SIZE": None}, "JOB_COMPLETION_INDEX without WORLD_SIZE, which is the number of completions"),
        ({"JOB_COMPLETION_INDEX": "4"}, "rank 4 of 4"),
        ({"JOB_COMPLETION_INDEX": ""}, "invalid literal"),
        ({"WORLD_SIZE": "many"}, "invalid literal"),
    ],
)
def test_a_pod_that_does_not_know_its_share_is_refused(changes: dict[str, str | None], sentence: str) -> None:
    """It would run everything, as would every other."""
    environment = {name: value for name, value in {**POD, **changes}.items() if value is not None}
    with pytest.raises(InputError, match=f"{sentence}.*start with torchrun, srun or `submit`, or unset them"):
        find_process(environment)


def test_torchrun_says_how_many_share_the_machine() -> None:
    process = find_process({**TORCHRUN, "LOCAL_WORLD_SIZE": "4"})
    assert (process.sharing, process.local_world_size) == (4, 4)
    # Not everything that sets the other variables sets this one; then all of them may be here, or not.
    process = find_process(TORCHRUN)
    assert (process.sharing, process.local_world_size) == (8, process.local_rank + 1)
    with pytest.raises(InputError, match="the launcher's variables are not usable"):
        find_process({**TORCHRUN, "LOCAL_WORLD_SIZE": "0"})


@pytest.mark.parametrize(
    ("bound", "tasks", "sharing"),
    [(8, "4", 4), (8, "2(x2)", 2), (8, "1,3(x2),2", 3), (8, None, 4), (2, "4", 1)],
)
def test_tasks_of_srun_share_a_machine_unless_each_is_bound_to_processors_of_its_own(
    monkeypatch: pytest.MonkeyPatch, bound: int, tasks: str | None, sharing: int
) -> None:
    monkeypatch.setattr("ensemble_eval.jobs.process.bound_processors", lambda: bound)
    environment = {**SRUN, "SLURM_CPUS_ON_NODE": "8"}
    if tasks is not None:
        environment["SLURM_STEP_TASKS_PER_NODE"] = tasks
    assert find_process(environment).sharing == sharing


@pytest.mark.parametrize(("machine", "on_machine"), [("0", 1), ("1", 3), ("2", 3), ("3", 2), ("4", 3)])
def test_each_machine_of_srun_may_have_another_number_of_tasks(machine: str, on_machine: int) -> None:
    environment = {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "1,3(x2),2", "SLURM_NODEID": machine}
    assert find_process(environment).local_world_size == on_machine


def test_for_torch_distributed_srun_starts_processes_that_are_each_alone() -> None:
    assert find_process(SRUN, torchrun_only=True) == Process()
    assert find_process({**SRUN, **TORCHRUN}, torchrun_only=True).world_size == 8
    with pytest.raises(InputError, match=r"WORLD_SIZE=4 without RANK.*start with torchrun, or unset them"):
        find_process({**SRUN, "WORLD_SIZE": "4"}, torchrun_only=True)


def test_a_step_of_one_task_may_start_processes_of_its_own() -> None:
    assert not find_process({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}).launched


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_STEP_NUM_TASKS": None},  # the batch script itself
        {"SLURM_STEP_ID": "4294967291"},  # the same, where Slurm numbers it
        {"SLURM_STEP_ID": "4294967290"},  # an interactive shell
        {"SLURM_STEP_ID": "4294967280"},  # the first number that Slurm gives no real step
        {"SLURM_STEP_ID": None},
    ],
)
def test_a_job_without_a_step_is_one_process(changes: dict[str, str | None]) -> None:
    environment = {name: value for name, value in {**SRUN, **changes}.items() if value is not None}
    assert find_process(environment) == Process()


def test_the_last_number_of_a_real_step_is_one() -> None:
    assert find_process({**SRUN, "SLURM_STEP_ID": "4294967279"}).world_size == 4


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
@pytest.mark.parametrize("value", ["2", "-1", "two"])
def test_one_of_torchruns_variables_alone_is_refused(name: str, value: str) -> None:
    """Each of several such processes would run everything."""
    with pytest.raises(InputError, match=f"{value}.*start with torchrun, srun or `submit`, or unset them"):
        find_process({name: value})


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "1"}, {"RANK": "0"}])
def test_a_variable_that_says_alone_is_believed(environment: dict[str, str]) -> None:
    """Some platforms set WORLD_SIZE=1 for every single process."""
    assert find_process(environment) == Process()


def test_a_job_step_counts_where_a_script_exports_one_of_torchruns_variables() -> None:
    assert find_process({**SRUN, "WORLD_SIZE": "4"}) == find_process(SRUN)


@pytest.mark.parametrize("changes", [{"RANK": "eight"}, {"RANK": "8"}, {"LOCAL_RANK": ""}])
def test_unusable_variables_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(InputError, match="start with torchrun, srun or"):
        find_process({**TORCHRUN, **changes})


def test_restarts_that_only_one_machine_counts_change_no_deal() -> None:
    """Each machine's agent of torchrun counts its own workers' failures."""
    assert find_process({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "1"}) == find_process(TORCHRUN)


def test_sessions_differ_from_start_to_start() -> None:
    assert find_process({**SRUN, "SLURM_RESTART_COUNT": "1"}).session != find_process(SRUN).session
    assert find_process({**TORCHRUN, "RANK": "0"}).session == find_process(TORCHRUN).session
    assert find_process({**TORCHRUN, "TORCHELASTIC_RUN_ID": "other"}).session != find_process(TORCHRUN).session


@pytest.mark.parametrize("world", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("count", [0, 1, 50, 1001])
def test_everything_is_sharded_once_and_evenly(world: int, count: int) -> None:
    shards = shard_positions(count, world, "session")
    assert sorted(value for shard in shards for value in shard) == list(range(count))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(shard == sorted(shard) for shard in shards)


def test_what_a_dead_rank_left_is_sharded_in_the_next_session() -> None:
    left = set(shard_positions(900, 3, "first")[1])
    shards = [len(left.intersection(shard)) for shard in shard_positions(900, 3, "second")]
    assert sum(shards) == 300
    assert min(shards) > 70
