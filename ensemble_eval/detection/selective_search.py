"""Selective search, the proposals of R-CNN, in processes that may die.

J. Uijlings et al., Selective Search for Object Recognition, IJCV 104, 2013, in the implementation of OpenCV's
extra modules (opencv-contrib), which ends its process on some images. Other implementations find other boxes.
"""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Boxes
from ensemble_eval.errors import MissingExtraError, first_line

# While each process searches one image, another one waits.
_AHEAD_PER_WORKER = 2
_ATTEMPTS = 2


@dataclass(frozen=True)
class Setting:
    """The fast mode of selective search: colour space HSV and Lab, all four similarities and size with fill.

    Attributes:
        superpixel_size: The size of the smallest segments, Felzenszwalb's k in pixels; larger ones give fewer
            proposals.
        increment: By how much the size grows for the next segmentation.
        sigma: The blur before the segmentation, in pixels.
    """

    superpixel_size: int
    increment: int
    sigma: float = 0.8


RCNN = Setting(150, 150)
DOUBLED = Setting(300, 300)
"""The paper's change (section 8): superpixels twice as large halve the number of proposals."""


Search = Callable[[NDArray[np.uint8], Setting], Boxes]


def require_opencv() -> None:
    """Check that OpenCV's extra modules are installed.

    Raises:
        MissingExtraError: They are not.
    """
    try:
        import cv2.ximgproc.segmentation  # noqa: F401  (plain OpenCV lacks it)
    except ImportError as error:
        problem = "selective search needs OpenCV with its extra modules, which are not installed"
        raise MissingExtraError(problem, "detection") from error


def selective_search(image: NDArray[np.uint8], setting: Setting) -> Boxes:
    """The boxes that selective search proposes in an image.

    Args:
        image: uint8 [height, width, 3], RGB.
        setting: How fine the smallest segments are.

    Returns:
        float64 [boxes, 4], each once and sorted, because OpenCV draws its order at random.
    """
    import cv2

    cv2.setNumThreads(1)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[:, :, ::-1]))
    search.switchToSelectiveSearchFast(setting.superpixel_size, setting.increment, setting.sigma)
    found = np.asarray(search.process(), np.float64).reshape(-1, 4)
    return np.unique(np.hstack([found[:, :2], found[:, :2] + found[:, 2:]]), axis=0)


def search_images(
    images: Iterable[tuple[str, NDArray[np.uint8]]],
    setting: Setting,
    workers: int,
    search: Search = selective_search,
) -> Generator[tuple[str, Boxes | str]]:
    """Search several images at once, each in one of `workers` processes; results keep the order.

    A process that dies is replaced, and its image has no proposals.

    Args:
        images: The id and the pixels of each image, uint8 [height, width, 3], RGB.
        setting: How fine the smallest segments are.
        workers: The number of processes.
        search: What the processes do; a function that can be pickled.

    Yields:
        The id of each image with its boxes, or with the reason why its search failed.
    """
    # Only here: it imports torch, which would slow the start of the processes.
    from ensemble_eval.jobs.prefetch import prefetched

    with _processes_of_threads(setting, search) as ask:
        yield from prefetched(ask, images, threads=workers, ahead=_AHEAD_PER_WORKER * workers)


@contextlib.contextmanager
def _processes_of_threads(
    setting: Setting, search: Search
) -> Iterator[Callable[[tuple[str, NDArray[np.uint8]]], tuple[str, Boxes | str]]]:
    """A function that searches an image in a process that belongs to the calling thread alone."""
    of_thread, processes = threading.local(), list[BaseProcess]()
    starting, ended = threading.Lock(), threading.Event()

    def connect() -> Connection:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, setting, search), daemon=True)
        with starting:
            if ended.is_set():
                raise EOFError
            process.start()
            processes.append(process)
        theirs.close()
        of_thread.connection = ours
        return ours

    def ask(image: tuple[str, NDArray[np.uint8]]) -> tuple[str, Boxes | str]:
        name, pixels = image
        # Somebody may have killed the process, for the memory that others took. It is the image if it dies again.
        for _ in range(_ATTEMPTS):
            try:
                connection = getattr(of_thread, "connection", None) or connect()
                connection.send(pixels)
                return name, connection.recv()
            except (EOFError, OSError):
                of_thread.connection = None
        return name, "the process that searched it died"

    try:
        yield ask
    finally:
        ended.set()
        # Whoever waits for an answer gets none now.
        with starting:
            for process in processes:
                process.kill()
                process.join()


def _serve(connection: Connection, setting: Setting, search: Search) -> None:
    """In a process of its own: search each image that arrives, until the pipe closes."""
    while True:
        try:
            image = connection.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer: Boxes | str = search(image, setting)
        except Exception as error:
            # OpenCV's errors have no common class that can be imported without it.
            answer = f"selective search failed: {first_line(error)}"
        connection.send(answer)
