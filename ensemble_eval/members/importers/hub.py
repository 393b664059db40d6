"""Weights of the Hugging Face hub, through its own library and cache."""

import re
from pathlib import Path

from ensemble_eval.errors import InputError, first_line, needing_extra

# Safetensors first: they cannot hold code at all.
_FILES = ("model.safetensors", "pytorch_model.bin")
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def downloaded(name: str) -> Path:
    """The weights of a repository, from the hub's cache, which fetches what is not there.

    Args:
        name: `OWNER/NAME`, or `OWNER/NAME@REVISION`.

    Raises:
        InputError: huggingface_hub is not installed, there is no such repository or weights in it, or they are
            neither in the cache nor to be had.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"hf:{name} is not of the form hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    with needing_extra("hub", "a published network of the hub"):
        import huggingface_hub as hub
        from huggingface_hub import errors
    refusal: Exception | None = None
    for file in _FILES:
        try:
            return Path(hub.hf_hub_download(match[1], file, revision=match[2]))
        except errors.EntryNotFoundError as error:
            # The cache alone cannot say whether the hub has this file and so it may be the other one.
            refusal = error
        except (OSError, ValueError, errors.HfHubHTTPError) as error:
            raise InputError(_not_to_be_had(name, error)) from error
    raise InputError(_not_to_be_had(name, refusal)) from refusal


def _not_to_be_had(name: str, error: Exception | None) -> str:
    reason = f" ({first_line(error)})" if error is not None else ""
    return (
        f"hf:{name} has none of {', '.join(_FILES)} in the hub's cache, and they cannot be fetched{reason}; "
        "fetch the repository where there is a network, or set HF_HOME to a cache that has it"
    )
