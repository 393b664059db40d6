"""`ensemble-eval convert`."""

from pathlib import Path

import click

from ensemble_eval.cli.options import PATH, command


@command("ensemble-eval convert googlenet-1378be20.pth googlenet.safetensors")
@click.argument("file", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--classes",
    metavar="FILE",
    help="Text file with one class a line, in the order of the outputs. [default: imagenet-1k]",
)
@click.option("--raw", is_flag=True, help="Take the raw weights where averaged ones are there too.")
def convert(file: Path, out: Path, classes: str | None, raw: bool) -> None:
    """Write a FILE of weights to OUT as safetensors that describe themselves.

    OUT is a full member: a manifest names it by name and weights alone, and a folder of such files is an ensemble.
    """
    from ensemble_eval.cli.output import say
    from ensemble_eval.members.converting import convert as converted
    from ensemble_eval.members.imported import input_text
    from ensemble_eval.members.importers.published import published

    path = published(str(file)).weights
    member = converted(path, out, classes=classes, averaged=False if raw else None)
    say(f"{out}: {member.arch}, {input_text(member.input)}")
