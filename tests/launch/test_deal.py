import pytest

from ensemble_eval.errors import InputError
from ensemble_eval.launch.place import Place, Role, deal, find_place

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "run"}
SRUN = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


def test_a_process_without_a_launcher_is_alone_and_speaks() -> None:
    place = find_place({})
    assert place == Place()
    assert place.role is Role.ALONE
    assert place.reports
    assert not place.launched


def test_torchrun_gives_rank_and_world() -> None:
    place = find_place(TORCHRUN)
    assert (place.rank, place.world, place.local_rank, place.role) == (3, 8, 1, Role.RANK)
    assert not place.reports


def test_torchrun_inside_a_job_step_counts_and_not_the_step() -> None:
    assert find_place({**SRUN, **TORCHRUN}).world == 8


def test_a_worker_of_ours_leaves_the_tables_to_its_parent() -> None:
    place = find_place({**TORCHRUN, "RANK": "0", "ENSEMBLE_EVAL_PARENT": "42"})
    assert (place.role, place.parent) == (Role.WORKER, 42)
    assert not place.reports


def test_srun_gives_rank_and_world() -> None:
    place = find_place(SRUN)
    assert (place.rank, place.world, place.local_rank, place.role) == (2, 4, 0, Role.RANK)


def test_torchrun_says_how_many_share_the_machine() -> None:
    place = find_place({**TORCHRUN, "LOCAL_WORLD_SIZE": "4"})
    assert (place.neighbours, place.on_machine) == (4, 4)
    # Not everything that sets the other variables sets this one; then all of them may be here, or not.
    place = find_place(TORCHRUN)
    assert (place.neighbours, place.on_machine) == (8, place.local_rank + 1)
    with pytest.raises(InputError, match="the launcher's variables are not usable"):
        find_place({**TORCHRUN, "LOCAL_WORLD_SIZE": "0"})


@pytest.mark.parametrize(
    ("bound", "tasks", "neighbours"),
    [(8, "4", 4), (8, "2(x2)", 2), (8, "1,3(x2),2", 3), (8, None, 4), (2, "4", 1)],
)
def test_tasks_of_srun_share_a_machine_unless_each_is_bound_to_processors_of_its_own(
    monkeypatch: pytest.MonkeyPatch, bound: int, tasks: str | None, neighbours: int
) -> None:
    monkeypatch.setattr("ensemble_eval.launch.place.bound_processors", lambda: bound)
    environment = {**SRUN, "SLURM_CPUS_ON_NODE": "8"}
    if tasks is not None:
        environment["SLURM_STEP_TASKS_PER_NODE"] = tasks
    assert find_place(environment).neighbours == neighbours


@pytest.mark.parametrize(("machine", "on_machine"), [("0", 1), ("1", 3), ("2", 3), ("3", 2), ("4", 3)])
def test_each_machine_of_srun_may_have_another_number_of_tasks(machine: str, on_machine: int) -> None:
    environment = {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "1,3(x2),2", "SLURM_NODEID": machine}
    assert find_place(environment).on_machine == on_machine


def test_for_torch_distributed_srun_starts_processes_that_are_each_alone() -> None:
    assert find_place(SRUN, srun=False) == Place()
    assert find_place({**SRUN, **TORCHRUN}, srun=False).world == 8
    with pytest.raises(InputError, match=r"WORLD_SIZE=4 without RANK.*start with torchrun, or unset them"):
        find_place({**SRUN, "WORLD_SIZE": "4"}, srun=False)


def test_a_step_of_one_task_may_start_processes_of_its_own() -> None:
    assert not find_place({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}).launched


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
    assert find_place(environment) == Place()


def test_the_last_number_of_a_real_step_is_one() -> None:
    assert find_place({**SRUN, "SLURM_STEP_ID": "4294967279"}).world == 4


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
@pytest.mark.parametrize("value", ["2", "-1", "two"])
def test_one_of_torchruns_variables_alone_is_refused(name: str, value: str) -> None:
    """Each of several such processes would run everything."""
    with pytest.raises(InputError, match=f"{value}.*start with torchrun or srun, or unset them"):
        find_place({name: value})


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "1"}, {"RANK": "0"}])
def test_a_variable_that_says_alone_is_believed(environment: dict[str, str]) -> None:
    """Some platforms set WORLD_SIZE=1 for every single process."""
    assert find_place(environment) == Place()


def test_a_job_step_counts_where_a_script_exports_one_of_torchruns_variables() -> None:
    assert find_place({**SRUN, "WORLD_SIZE": "4"}) == find_place(SRUN)


@pytest.mark.parametrize("changes", [{"RANK": "eight"}, {"RANK": "8"}, {"LOCAL_RANK": ""}])
def test_unusable_variables_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(InputError, match="start with torchrun or srun"):
        find_place({**TORCHRUN, **changes})


def test_restarts_that_only_one_machine_counts_change_no_deal() -> None:
    """Each machine's agent of torchrun counts its own workers' failures."""
    assert find_place({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "1"}) == find_place(TORCHRUN)


def test_sessions_differ_from_start_to_start() -> None:
    assert find_place({**SRUN, "SLURM_RESTART_COUNT": "1"}).session != find_place(SRUN).session
    assert find_place({**TORCHRUN, "RANK": "0"}).session == find_place(TORCHRUN).session
    assert find_place({**TORCHRUN, "TORCHELASTIC_RUN_ID": "other"}).session != find_place(TORCHRUN).session


@pytest.mark.parametrize("world", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("count", [0, 1, 50, 1001])
def test_everything_is_dealt_once_and_evenly(world: int, count: int) -> None:
    shares = deal(count, world, "session")
    assert sorted(value for share in shares for value in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(share == sorted(share) for share in shares)


def test_what_a_dead_rank_left_is_shared_in_the_next_session() -> None:
    left = set(deal(900, 3, "first")[1])
    shares = [len(left.intersection(share)) for share in deal(900, 3, "second")]
    assert sum(shares) == 300
    assert min(shares) > 70
