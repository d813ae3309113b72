"""Many runs side by side, one process each, with one bar for the steps of all of them."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from queue import Empty
from threading import Event, Thread
from typing import Any

from tqdm import tqdm

from experiments.runs import Run, finish

# On maps this small a second thread of OpenBLAS makes a step slower; a second process does not. And
# glibc shall keep the memory of large arrays: to get it anew costs a sixth of a deformable step.
ENVIRONMENT = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**30)),
}


def finished(runs: list[Run], folder: Path, processes: int, bar: bool = True) -> dict[Run, Any]:
    """The results of all runs; a run that fails is raised when the others have ended."""
    os.environ.update(ENVIRONMENT)  # before the processes start
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        tqdm(total=sum(run.iterations for run in runs), unit="step", disable=not bar) as shown,
        ProcessPoolExecutor(processes, mp_context=context) as pool,
    ):
        steps, done = manager.Queue(), Event()
        watcher = Thread(target=_watch, args=(steps, shown, done))
        watcher.start()
        try:
            waiting = {pool.submit(finish, run, folder, steps.put): run for run in runs}
            results = {waiting[f]: f for f in as_completed(waiting)}
        finally:
            done.set()
            watcher.join()
        return {run: future.result() for run, future in results.items()}


def _watch(steps: Any, shown: Any, done: Event) -> None:
    """Move the bar by what the processes tell."""
    while True:
        try:
            shown.update(steps.get(timeout=0.2))
        except Empty:
            if done.is_set():
                return
