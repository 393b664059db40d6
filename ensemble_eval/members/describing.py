"""What a file of weights says about its member: from its own description, or from its format and shapes."""

import dataclasses
from pathlib import Path
from typing import Any

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import GRAPH, ClassList, InputFormat
from ensemble_eval.members.importers.imported import Imported
from ensemble_eval.members.saving import is_described, read_member


def describe(path: Path, *, averaged: bool | None = None) -> Imported:
    """What a file of weights says about its member, without its tensors.

    Args:
        path: of the file.
        averaged: which of raw and averaged weights is meant, where both may be there.

    Raises:
        InputError: see `read_weights`.
    """
    if is_described(path):
        member, classes = read_member(path)
        return Imported(
            format="safetensors that describe themselves",
            arch=member.arch,
            options=member.options,
            input=member.input,
            outputs=None if member.outputs is None else str(member.outputs),
            num_outputs=classes.count + (member.outputs is not None),
        )
    # Only here: our own files say all of this without torch.
    from ensemble_eval.members.importers.opening import read_weights

    return dataclasses.replace(read_weights(path, averaged=averaged), tensors={})


def refuse_other_classes(path: Path, classes: ClassList) -> None:
    """Refuse a file that says itself that it was trained on other classes, or on them in another order.

    Raises:
        InputError: it was.
    """
    if is_described(path):
        _, own = read_member(path)
        if (own.count, own.names) != (classes.count, classes.names):
            raise InputError(
                f"the weights {path} are of other classes than {classes.source}, or of them in another order; "
                "state `arch` and `input` beside them if you know better"
            )


def said_by(
    path: Path, *, averaged: bool | None = None, stated_input: InputFormat | None = None
) -> dict[str, Any]:
    """The arguments of a `Member` that a file of weights states by itself.

    Raises:
        InputError: its architecture is none that is known, or it is a graph whose input nobody states; otherwise
            see `read_weights`.
    """
    found = describe(path, averaged=averaged)
    if found.arch == GRAPH and found.input is None and stated_input is None:
        raise InputError(
            f"the weights {path} are {found.format}, which does not say how it wants its pixels; state `input`"
        )
    if found.arch is None:
        raise InputError(
            f"the weights {path} are {found.format} of no architecture that is known; state `arch` and `input`"
        )
    said = {"arch": found.arch, "options": dict(found.options), "input": found.input, "outputs": found.outputs}
    return {name: value for name, value in said.items() if value is not None}
