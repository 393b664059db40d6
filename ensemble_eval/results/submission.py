"""What an ensemble answers for images without labels, as text: five classes for each image, best first."""

from collections.abc import Iterable, Sequence

from ensemble_eval.members.ensemble import ENSEMBLE_ROWS
from ensemble_eval.results.store import Store

# Where an image could not be read. A line that was left out would move all that follow.
_NO_ANSWER = "-1 -1 -1 -1 -1"


def submission_of(store: Store, members: Sequence[str], unreadable: Iterable[str]) -> str:
    """One line for each image, sorted by id: the five best classes of the whole ensemble with its largest scheme.

    Classes are indices from 0 in the order of the ensemble's classes, which for imagenet-1k is that of the sorted
    WNIDs. They are not the ids of ILSVRC's development kit.

    Args:
        store: of the run, as of its last reading.
        members: of the ensemble.
        unreadable: ids of images without predictions.
    """
    predictions = store.predictions(["image", "member", "crops", "top5"])
    name = ENSEMBLE_ROWS if len(members) > 1 else members[0]
    largest = predictions["crops"].max()
    rows = predictions[(predictions["member"] == name) & (predictions["crops"] == largest)]
    answers = {image: " ".join(map(str, best)) for image, best in zip(rows["image"], rows["top5"], strict=True)}
    answers |= dict.fromkeys(unreadable, _NO_ANSWER)
    return "".join(f"{answers[image]}\n" for image in sorted(answers))
