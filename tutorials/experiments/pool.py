"""Many runs side by side, one process each, with one bar for the steps of all of them."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from tqdm import tqdm

from experiments.runs import Run, finish

# On maps this small a second thread of OpenBLAS makes a step slower; a second process does not. And
# glibc shall keep the memory of large arrays: to get it anew costs a sixth of a deformable step.
ENVIRONMENT = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**30)),
}
_STEPS: Any = None  # in a process of the pool: where it tells of its steps


def finished(runs: list[Run], folder: Path, processes: int, bar: bool = True) -> dict[Run, Any]:
    """The results of all runs; a run that fails is raised when the others have ended.

    An interrupt ends all processes at once, and their checkpoints stay. Raises RuntimeError while
    another command works in the same folder.
    """
    os.environ.update(ENVIRONMENT)  # before the processes start
    context = multiprocessing.get_context("spawn")
    steps = context.SimpleQueue()
    total = sum(run.iterations for run in runs)
    with (
        alone(folder),
        tqdm(total=total, unit="step", disable=not bar) as shown,
        ProcessPoolExecutor(processes, context, _begin, (steps,)) as pool,
    ):
        watcher = Thread(target=_watch, args=(steps, shown))
        watcher.start()
        try:
            waiting = {pool.submit(_finish, run, folder): run for run in runs}
            results = {waiting[f]: f for f in as_completed(waiting)}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
        finally:
            steps.put(None)
            watcher.join()
        return {run: future.result() for run, future in results.items()}


def _begin(steps: Any) -> None:
    """What a process of the pool does first: it leaves Ctrl-C to its parent, and ends with it."""
    global _STEPS
    _STEPS = steps
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _finish(run: Run, folder: Path) -> dict:
    return finish(run, folder, _STEPS.put)


def _watch(steps: Any, shown: Any) -> None:
    """Move the bar by what the processes tell."""
    while (made := steps.get()) is not None:
        shown.update(made)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder of runs; the lock falls with the process, whatever ends it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            import fcntl
        except ImportError:  # not on Windows, where nothing is locked
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(f"another command trains in {folder}; name another one") from None
        yield
