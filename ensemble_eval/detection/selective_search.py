"""Selective search, the proposals of R-CNN, in processes that may die.

J. Uijlings et al., Selective Search for Object Recognition, IJCV 104, 2013, in the implementation of OpenCV's
extra modules (opencv-contrib), which ends its process on some images. Other implementations find other boxes.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Boxes
from ensemble_eval.errors import MissingExtraError, first_line

# One waits in each process's queue while the others are searched.
_AHEAD_PER_WORKER = 2


@dataclass(frozen=True)
class Setting:
    """The fast mode of selective search: colour space HSV and Lab, all four similarities and size with fill.

    Attributes:
        superpixel_size: of the smallest segments, in pixels of Felzenszwalb's k; the larger, the fewer proposals.
        increment: by which it grows for the next segmentation.
        sigma: of the blur before, in pixels.
    """

    superpixel_size: int
    increment: int
    sigma: float = 0.8


RCNN = Setting(150, 150)
DOUBLED = Setting(300, 300)
"""The paper's change (section 8): superpixels twice as large halve the number of proposals."""


Search = Callable[[NDArray[np.uint8], Setting], Boxes]


def require_opencv() -> None:
    """Refuse to go on without OpenCV's extra modules.

    Raises:
        MissingExtraError: they are not installed.
    """
    try:
        import cv2.ximgproc.segmentation  # noqa: F401  (plain OpenCV lacks it)
    except ImportError as error:
        problem = "selective search needs OpenCV with its extra modules, which are not installed"
        raise MissingExtraError(problem, "detection") from error


def selective_search(image: NDArray[np.uint8], setting: Setting) -> Boxes:
    """Propose boxes.

    Args:
        image: uint8 [height, width, 3], RGB.
        setting: how fine the smallest segments are.

    Returns:
        float64 [boxes, 4], each once, sorted: OpenCV's own order is drawn at random.
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
) -> Iterator[tuple[str, Boxes | str]]:
    """Search several images at once, each in one of `workers` processes; results keep the order.

    A process that dies is replaced, and its image has no proposals.

    Args:
        images: id and uint8 [height, width, 3], RGB, of each.
        setting: how fine the smallest segments are.
        workers: processes.
        search: what the processes do; a function that can be pickled.

    Yields:
        The id of each image with its boxes, or with the reason why its search failed.
    """
    arriving = iter(images)
    pending: deque[tuple[str, Future[Boxes | str]]] = deque()
    with _searchers(setting, workers, search) as submit:
        while True:
            while len(pending) < _AHEAD_PER_WORKER * workers and (each := next(arriving, None)) is not None:
                pending.append((each[0], submit(each[1])))
            if not pending:
                return
            image, found = pending.popleft()
            yield image, found.result()


@contextlib.contextmanager
def _searchers(
    setting: Setting, workers: int, search: Search
) -> Iterator[Callable[[NDArray[np.uint8]], Future[Boxes | str]]]:
    """Threads that each have a process of their own to talk to: how to submit an image to them."""
    threads = ThreadPoolExecutor(workers, thread_name_prefix="search")
    of_thread, processes = threading.local(), list[BaseProcess]()

    def connect() -> Connection:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, setting, search), daemon=True)
        process.start()
        theirs.close()
        processes.append(process)
        of_thread.connection = ours
        return ours

    def ask(image: NDArray[np.uint8]) -> Boxes | str:
        connection = getattr(of_thread, "connection", None) or connect()
        try:
            connection.send(image)
            answer: Boxes | str = connection.recv()
        except (EOFError, OSError):
            of_thread.connection = None
            return "the process that searched it died"
        return answer

    try:
        yield lambda image: threads.submit(ask, image)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        # Whoever waited for an answer has none now. A process that was only just started ends with its pipe.
        threads.shutdown()
        for process in processes:
            process.kill()
            process.join()


def _serve(connection: Connection, setting: Setting, search: Search) -> None:
    """In a process of its own: search what comes, until nobody is there any more."""
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
