"""`ensemble-eval crops`."""

from pathlib import Path

import click

from ensemble_eval.cli.options import PATH, command
from ensemble_eval.cli.output import say


@command("ensemble-eval crops photograph.jpg --out crops")
@click.argument("image", type=PATH)
@click.option("--out", type=PATH, default=Path("crops"), show_default=True, help="Folder for the pictures.")
@click.option(
    "--protocol", default="googlenet", show_default=True, help="A name of docs/protocols.md, or a .toml file."
)
def crops(image: Path, out: Path, protocol: str) -> None:
    """Write the crops of IMAGE as pictures, and two pictures that explain them.

    The crops are 000.png, 001.png and so on in the crop order. sheet.png shows them with labels, and overview.png
    shows where in the image they lie.
    """
    from ensemble_eval.crops.pictures import OVERVIEW_FILE, write_crops
    from ensemble_eval.crops.protocols import read_protocol

    rule = read_protocol(protocol)
    sheet = write_crops(image, out, rule)
    say(f"{len(rule.crops)} crops, {sheet.name} and {OVERVIEW_FILE} written to {out}")
