"""A predictor that is kept open: threads, forks, other processes, and whatever else goes on meanwhile."""

import asyncio
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import BadInput
from pipeline.predict.predictor import Predictor
from pipeline.project import Project
from pipeline.tuning.train import train
from tests.conftest import REPOSITORY
from tests.forks import HANG, fork_while_threads, in_a_fork
from tests.pipeline.predict.test_predict import images_of

METHODS = ("conv3_2.logreg", "conv3_2.knn", "finetune.full")
THREADS, ANSWERS = 8, 200


def from_threads(
    function: Callable[[Any], np.ndarray], items: list[Any], alone: list[np.ndarray], answers: int = ANSWERS
) -> int:
    """How many answers by `THREADS` threads at once differ in a bit from those alone."""
    start = threading.Barrier(THREADS)

    def ask(thread: int) -> int:
        start.wait()
        numbers = [(thread + 3 * k) % len(items) for k in range(answers // THREADS)]
        return sum(not np.array_equal(function(items[n]), alone[n]) for n in numbers)

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(ask, range(THREADS)))


@pytest.mark.parametrize("head", ["logreg", "rbf-svm"])
def test_threads_get_the_answers_that_each_would_get_alone(served: Project, head: str) -> None:
    predictor = Predictor(served, f"conv3_2.{head}", neighbours=2)
    images = [*images_of(served), *images_of(served)[:1]]

    def ask(path: Path) -> np.ndarray:
        answer = predictor.predict(path)
        return np.array([*answer.proba, *(near.similarity for near in answer.neighbours)])

    assert from_threads(ask, images, [ask(path) for path in images]) == 0


def test_two_predictors_in_one_process_do_not_meet(served: Project) -> None:
    """scikit-learn's search for neighbours sets how many threads BLAS has, of the whole process."""
    predictors = [Predictor(served, method) for method in METHODS]
    asked = [(one, path) for one in predictors for path in images_of(served)[:2]]
    alone = [one.predict_proba(path) for one, path in asked]
    assert from_threads(lambda pair: pair[0].predict_proba(pair[1]), asked, alone, answers=48) == 0


def test_from_asyncio(served: Project) -> None:
    predictor, images = Predictor(served, "conv3_2.logreg"), images_of(served)

    async def all_at_once() -> list[np.ndarray]:
        return await asyncio.gather(*(asyncio.to_thread(predictor.predict_proba, path) for path in images))

    found = asyncio.run(all_at_once())
    np.testing.assert_array_equal(found, [predictor.predict_proba(path) for path in images])


@fork_while_threads
@pytest.mark.parametrize("head", ["logreg", "rbf-svm"])
def test_a_forked_process_answers(served: Project, head: str) -> None:
    predictor, images = Predictor(served, f"conv3_2.{head}", neighbours=1), images_of(served)
    alone = predictor.predict_proba(images)
    np.testing.assert_array_equal(in_a_fork(lambda: predictor.predict_proba(images)), alone)


@fork_while_threads
def test_a_process_forked_while_other_threads_compute_answers(served: Project) -> None:
    predictor, images = Predictor(served, "conv3_2.logreg"), images_of(served)
    alone, over = predictor.predict_proba(images[:2]), threading.Event()

    def ask() -> None:
        while not over.is_set():
            predictor.predict_proba(images[:2])

    with ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(ask) for _ in range(3)]
        try:
            for _ in range(5):
                np.testing.assert_array_equal(in_a_fork(lambda: predictor.predict_proba(images[:2])), alone)
        finally:
            over.set()
        for one in busy:
            one.result()


@fork_while_threads
@pytest.mark.parametrize(("method", "library"), [("conv3_2.knn", "scikit-learn"), ("finetune.full", "torch")])
def test_a_fork_of_threads_that_do_not_survive_it_is_refused(
    served: Project, method: str, library: str
) -> None:
    predictor, images = Predictor(served, method), images_of(served)
    predictor.predict_proba(images[0])
    for ask in (
        lambda: predictor.predict_proba(images[0]),
        lambda: Predictor(served, method).predict(images[0]),
    ):
        refused = in_a_fork(ask)
        assert isinstance(refused, BadInput)
        assert f"{library} computed before this process was forked" in str(refused)


def spawned(predictor: Predictor, images: list[Path]) -> np.ndarray:
    return predictor.predict_proba(images)


def test_a_spawned_process_answers(served: Project) -> None:
    predictor, images = Predictor(served, "conv3_2.logreg", neighbours=1), images_of(served)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(spawned, (predictor, images)).get(4 * HANG)
    np.testing.assert_array_equal(found, predictor.predict_proba(images))


@pytest.mark.parametrize("method", METHODS)
def test_a_pickled_predictor_answers(served: Project, method: str) -> None:
    predictor, images = Predictor(served, method), images_of(served)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(predictor)).predict_proba(images), predictor.predict_proba(images)
    )


def test_a_pickled_predictor_has_its_settings(served: Project) -> None:
    predictor = Predictor(served, "conv3_2.logreg", neighbours=2, threshold=0.2)
    again = pickle.loads(pickle.dumps(predictor))
    assert again.threshold == 0.2
    assert again.neighbours is not None
    assert again.neighbours.k == 2


def test_a_pickled_predictor_is_of_the_method_as_it_was(served: Project) -> None:
    predictor = Predictor(served, "conv3_2.logreg")
    pickled, alone = pickle.dumps(predictor), predictor.predict_proba(images_of(served))
    train(Project.open(served.root, ["heads.logreg.C=[0.5,5]"]), "logreg")
    np.testing.assert_array_equal(predictor.predict_proba(images_of(served)), alone)  # what is open stays
    with pytest.raises(BadInput, match="trained anew since this Predictor was opened; open it again"):
        pickle.loads(pickled)
    train(served, "logreg")


TRAINER = """
import shutil, sys, time
from pathlib import Path
from features.files import written_aside

folder, scratch, variants, until = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:], time.monotonic() + 60
while time.monotonic() < until:
    for variant in variants:
        with written_aside(folder, scratch=scratch) as aside:
            shutil.copytree(variant, aside)
        print("there", flush=True)
"""


def test_a_predictor_opened_while_another_process_trains_is_of_one_training(
    served: Project, tmp_path: Path
) -> None:
    """Card, normalisation and arrays of different trainings would go together without a word."""
    image, found, refused = images_of(served)[0], [], 0
    folder = served.head_folder("logreg") / "conv3_2.logreg"
    for name, C in (("kept", "[0.01,1]"), ("other", "[0.5,5]")):
        train(Project.open(served.root, [f"heads.logreg.C={C}"]), "logreg")
        shutil.copytree(folder, tmp_path / name)
        found.append(Predictor(served, "conv3_2.logreg").predict_proba(image).tolist())
    assert found[0] != found[1]
    trainer = [
        sys.executable,
        "-c",
        TRAINER,
        folder,
        tmp_path / "scratch",
        tmp_path / "other",
        tmp_path / "kept",
    ]
    with subprocess.Popen(trainer, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(40):
                try:
                    predictor = Predictor(served, "conv3_2.logreg")
                except BadInput as error:
                    assert "anew" in str(error) or "no trained method" in str(error)  # noqa: PT017 - or there is none
                    refused += 1
                else:
                    assert predictor.predict_proba(image).tolist() in found
        finally:
            process.kill()
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(tmp_path / "kept", folder)
    assert refused < 40
