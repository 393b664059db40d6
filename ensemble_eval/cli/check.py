"""`ensemble-eval check`."""

from typing import Any

import click

from ensemble_eval.cli.options import PATH, command, options_of, settings_from
from ensemble_eval.cli.output import say, warn
from ensemble_eval.jobs.cpu import keep_freed_memory, wait_without_spinning
from ensemble_eval.settings import DISTRIBUTION, RunSettings


@command("ensemble-eval check val/ --ensemble mine.toml --crops 144")
@click.argument("dataset", type=PATH)
@options_of(RunSettings, leaving_out=[DISTRIBUTION])
def check(**options: Any) -> None:
    """Check everything that `run` with the same options needs, and print what it would cost.

    Opens manifest, weights, data set and device, and times one batch. It refuses an --out that takes no files or
    holds another run's tables. It leaves nothing behind.
    """
    wait_without_spinning()
    keep_freed_memory()
    from ensemble_eval.evaluation.cost import estimate, padding_warnings
    from ensemble_eval.evaluation.opening import open_folder, open_inputs, open_sources
    from ensemble_eval.files import require_could_be_written

    settings = settings_from(RunSettings, options)
    inputs = open_inputs(settings, open_sources(settings))
    folder = open_folder(settings, inputs)
    folder.refuse_foreign()
    require_could_be_written(folder.store.folder)
    images = len(inputs.dataset.items)
    for warning in (*inputs.warnings, *padding_warnings(settings, inputs)):
        warn(warning)
    say(f"ensemble  {inputs.ensemble.name}: {', '.join(inputs.members)}")
    say(f"classes   {inputs.ensemble.classes.count} ({inputs.ensemble.classes.source})")
    say(f"data set  {inputs.dataset.source}: {images} images")
    say(f"layout    {inputs.dataset.layout}")
    for sentence in inputs.dataset.scope.sentences():
        say(f"counted   {sentence}")
    for protocol in dict.fromkeys(inputs.rule.protocols):
        scales = ", ".join(map(str, protocol.scales))
        say(f"protocol  {protocol.name}: crops of {protocol.size} pixels, images resized to {scales}")
    say(f"device    {inputs.device}, {inputs.backend}, {settings.precision}")
    cost = estimate(inputs, settings)
    say(f"passes    {cost.passes_at_most} at most ({cost.passes_per_image} an image, fewer where crops coincide)")
    say(f"loading   {1000 * cost.loading_seconds:.1f} ms an image in one thread, to decode and to resize")
    if cost.multiply_adds is not None:
        say(f"work      {cost.multiply_adds / 1e9:.1f} billion multiply-adds an image")
    say(f"pace      {cost.passes_per_second:.0f} crops/s in one timed batch, so about {cost.duration}")
    rows = len(inputs.rule.schemes) * min(2, len(inputs.members))
    if inputs.dataset.scope.labelled and rows > 1:
        say(f"power     {_power(images, comparisons=rows - 1)}")
    say("everything that a run needs is there")


def _power(images: int, comparisons: int) -> str:
    """The differences of rows of Table 3 that this many images detect, by how often two rows disagree."""
    from ensemble_eval.errors import MissingExtraError
    from ensemble_eval.scoring.power import DISCORDANT_SHARES, detectable_points

    try:
        found = [(detectable_points(images, share, comparisons), share) for share in DISCORDANT_SHARES]
    except MissingExtraError as error:
        return f"not computed, because {error}"
    differences = "; ".join(
        f"{share:.0%}: {'none' if points is None else f'{points:.1f} points'}" for points, share in found
    )
    return (
        f"the top-5 difference from the first row that {images} images detect in 80% of cases, by the share of "
        f"images that exactly one of the two rows gets wrong: {differences}"
    )
