"""How a network wants its pixels, in words."""

from ensemble_eval.members.ensemble import InputFormat


def input_text(input_format: InputFormat) -> str:
    """How a network wants its pixels, as a phrase.

    Example:
        >>> input_text(InputFormat.imagenet())
        'RGB / 255, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)'
    """
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (input_format.mean, input_format.std))
    remapped = ", re-mapped to the range ±1 (transform_input)" if input_format.transform_input else ""
    scale = f" / {input_format.scale:g}" if input_format.scale != 1 else " from 0 to 255"
    return f"{input_format.channels.upper()}{scale}, minus ({mean}), over ({std}){remapped}"
