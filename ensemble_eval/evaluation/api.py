"""The functions of the public API that evaluate an ensemble, into a folder or in memory."""

import contextlib
import warnings
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.engine.pool import UnreadableImage
from ensemble_eval.errors import UnreadableImageError
from ensemble_eval.evaluation.finishing import Outcome
from ensemble_eval.evaluation.job import RunJob, engine_for, results_of
from ensemble_eval.evaluation.opening import Sources, open_inputs, sources_of
from ensemble_eval.fields import Rule, checked_value
from ensemble_eval.jobs.job import Finished, Notice, Progress
from ensemble_eval.jobs.runner import run_alone
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.settings import BackendChoice, Precision, Settings

# A path is opened by `open_dataset`.
Images = Dataset | Iterable[tuple[str, int, bytes]] | str | Path


def evaluate(
    ensemble: Ensemble | str | Path,
    dataset: Images,
    *,
    crops: int | None = Settings.crops,
    protocol: str | Path = Settings.protocol,
    out: str | Path = Settings.out,
    progress: Callable[[Progress], object] | None = None,
    until_decided: bool = Settings.until_decided,
    top1: bool = Settings.top1,
    store_scores: bool = Settings.store_scores,
    surface: bool = Settings.surface,
    device: str = Settings.device,
    precision: Precision = Settings.precision,
    backend: BackendChoice = Settings.backend,
    batch_size: int | None = Settings.batch_size,
    workers: int | None = Settings.workers,
    trust_python: bool = Settings.trust_python,
    cache: bool = Settings.cache,
    save_every: float = Settings.save_every,
    fresh: bool = Settings.fresh,
) -> Outcome:
    """Evaluate an ensemble on labelled images, and write Table 3 and all predictions to a folder.

    It writes the same files as `ensemble-eval run`, and runs in this process. The same call continues a run that
    was interrupted by an exception, by Ctrl-C or by the end of the process. Warnings are issued as `UserWarning`.

    Args:
        ensemble: An ensemble, or a path for `open_ensemble`.
        dataset: A data set, triples of id, label (class index) and the bytes of an image file, or a path for
            `open_dataset`.
        crops: The largest crop scheme of the protocol, such as 1, 10 or 144 of `googlenet`; None for all. Smaller
            schemes are included.
        protocol: The multi-crop protocol: a name, or the path of a TOML file.
        out: The folder for the results, which is created if it does not exist.
        progress: A function that is called with the progress after every image.
        until_decided: Run each image only until its top-5 outcome is certain in every row of the table. The
            table is the same, but scores are not known.
        top1: With `until_decided`, decide the top-1 columns too.
        store_scores: Store mean softmax vectors beside ranks. Tables of subsets of the members need them.
        surface: Store the label's rank for every number of models and crops, for groups of crops and for other
            averages, with two bytes for each. `Results.surface` and the other tables of crops need them.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: The precision of the convolutions. Softmax and sums are never in half precision.
        backend: The software that runs the networks: `auto`, `torch`, `compiled` or `openvino`.
        batch_size: Crops per batch; None for a default that depends on the device.
        workers: Threads that decode and resize; None for one less than the usable processors.
        trust_python: Allow members of the form `python:…` to import and run installed code.
        cache: Keep converted networks, without their weights, in the user's cache folder for the next start.
            `ENSEMBLE_EVAL_CACHE` names another folder.
        save_every: Seconds of work that a crash may cost.
        fresh: Discard the results of an earlier run in `out`.

    Returns:
        The rows of Table 3, the unreadable images, and the cost.

    Raises:
        InputError: An argument, a member or the data set cannot be used, or `out` belongs to another run.

    Example:
        An untrained network on one grey picture:

        >>> import io, tempfile, torch
        >>> from PIL import Image
        >>> from ensemble_eval.members.ensemble import Member
        >>> from ensemble_eval.members.imported import InputFormat
        >>> picture = io.BytesIO()
        >>> Image.new("RGB", (300, 260), "grey").save(picture, "PNG")
        >>> network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 6))
        >>> ensemble = Ensemble([Member("linear", network=network, input=InputFormat.imagenet())], list("abcdef"))
        >>> images = [("grey.png", 2, picture.getvalue())]
        >>> out = tempfile.mkdtemp()
        >>> outcome = evaluate(ensemble, images, crops=10, out=out, device="cpu", backend="torch")
        >>> [(row.models, row.crops, row.images) for row in outcome.rows]
        [(1, 1, 1), (1, 10, 1)]
    """
    settings = Settings(
        crops=crops,
        protocol=str(protocol),
        device=device,
        precision=precision,
        backend=backend,
        batch_size=batch_size,
        workers=workers,
        store_scores=store_scores,
        surface=surface,
        until_decided=until_decided,
        top1=top1,
        trust_python=trust_python,
        cache=cache,
        save_every=save_every,
        out=out,  # type: ignore[arg-type]  # made a path
        fresh=fresh,
    )
    checked_value(Callable | None, "`progress`", progress)
    job = RunJob(settings, _sources(ensemble, dataset, settings))
    with contextlib.closing(run_alone(job)) as events:
        for event in events:
            match event:
                case Notice(sentence):
                    warnings.warn(sentence, UserWarning, stacklevel=2)
                case Progress() if progress is not None:
                    progress(event)
                case Finished(outcome):
                    return outcome
    raise AssertionError("a job ends with its outcome")


def scores(
    ensemble: Ensemble | str | Path,
    dataset: Images,
    *,
    crops: int | None = Settings.crops,
    protocol: str | Path = Settings.protocol,
    on_unreadable: Callable[[UnreadableImage], object] | None = None,
    device: str = Settings.device,
    precision: Precision = Settings.precision,
    backend: BackendChoice = Settings.backend,
    batch_size: int | None = Settings.batch_size,
    workers: int | None = Settings.workers,
    trust_python: bool = Settings.trust_python,
    cache: bool = Settings.cache,
) -> Generator[ImageScores, None, None]:
    """Evaluate an ensemble in memory and write nothing.

    Args:
        ensemble, dataset, crops, protocol: As those of `evaluate`.
        device, precision, backend, batch_size, workers, trust_python, cache: As those of `evaluate`.
        on_unreadable: A function that is called with each image that cannot be read. Without it, such an image
            ends the evaluation.

    Yields:
        The id, the label and the mean softmax of each image, float64 [members, classes] for each crop scheme. The
        order need not be that of the data set.

    Raises:
        InputError: An argument, a member or the data set cannot be used.
        UnreadableImageError: An image cannot be read, and there is no `on_unreadable`.

    Example:
        >>> import io, torch
        >>> from PIL import Image
        >>> from ensemble_eval.members.ensemble import Member
        >>> picture = io.BytesIO()
        >>> Image.new("RGB", (300, 260), "grey").save(picture, "PNG")
        >>> halves = Member("halves", predict=lambda crops: torch.full((len(crops), 2), 0.5))
        >>> ensemble = Ensemble([halves], ["cat", "dog"])
        >>> for image in scores(ensemble, [("grey.png", 0, picture.getvalue())], crops=10, device="cpu"):
        ...     print(image.id, image.mean_softmax[10])
        grey.png [[0.5 0.5]]
    """
    settings = Settings(
        crops=crops,
        protocol=str(protocol),
        device=device,
        precision=precision,
        backend=backend,
        batch_size=batch_size,
        workers=workers,
        trust_python=trust_python,
        cache=cache,
    )
    checked_value(Callable | None, "`on_unreadable`", on_unreadable)
    inputs = open_inputs(settings, _sources(ensemble, dataset, settings))
    for sentence in inputs.warnings:
        warnings.warn(sentence, UserWarning, stacklevel=2)
    positions = range(len(inputs.dataset.items))
    stop = StopRequests()
    engine = engine_for(settings, inputs, stop)
    with contextlib.closing(results_of(settings, inputs, positions, stop, engine)) as results:
        for result in results:
            for sentence in engine.new_notices():
                warnings.warn(sentence, UserWarning, stacklevel=2)
            if isinstance(result, UnreadableImage):
                if on_unreadable is None:
                    raise UnreadableImageError(f"{result.id} cannot be evaluated: {result.reason}")
                on_unreadable(result)
            elif isinstance(result, ImageScores):
                yield result


def _sources(ensemble: Ensemble | str | Path, dataset: Images, settings: Settings) -> Sources:
    if isinstance(ensemble, str | Path):
        ensemble = open_ensemble(ensemble)
    checked_value(Ensemble, "`ensemble`", ensemble, Rule(words="an Ensemble, or the path of a manifest or folder"))
    if isinstance(dataset, str | Path):
        images = open_dataset(dataset, ensemble.classes, leaving_out=settings.out, listed_in=settings.out)
    else:
        images = dataset if isinstance(dataset, Dataset) else Dataset.of(dataset)
    return sources_of(ensemble, images, settings)
