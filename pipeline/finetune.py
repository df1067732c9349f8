"""The end-to-end baseline: the same network, on the same split, trained.

    python cli.py finetune --mode full

Per mode: `artifacts/finetune/<mode>/` with `model.safetensors` (torchvision's
parameter names, and the new output layer), `history.csv`, `predictions.npz` and `card.json`,
which has the others' digests. A finished run is kept under the cache root, checked
and published from there: nothing is trained twice.

References
----------
Kumar et al., Fine-Tuning can Distort Pretrained Features, arXiv:2202.10054 (the
new output layer starts from a head fitted on frozen features).
"""

import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from features import immutable
from features.batches import Decoder
from features.cache import RUN_CARD, fingerprint, run_flaw, runs
from features.errors import BadInput
from features.extract import Extraction
from features.files import remove, save_tensors, written_aside
from features.manifest import Manifest, write_csv
from features.network import Layer, parse_layer
from pipeline.calibration import calibrated, temperature
from pipeline.extraction import extraction
from pipeline.folds import Fold, Rows
from pipeline.heads.linear import LinearHead, LogReg
from pipeline.predictions import Predictions
from pipeline.project import Project, read_json
from pipeline.splits import units
from pipeline.trainer import Tuned, refit, scores, train
from pipeline.tuning import tune

FILES = ("model.safetensors", "history.csv", "predictions.npz", RUN_CARD)
START_GRID = {"C": tuple(10.0**k for k in range(-5, 3))}  # of the head the output layer starts from


def finetune(project: Project, modes: Sequence[str]) -> None:
    """Train the baselines that are not there yet; publish all of them.

    Raises
    ------
    BadInput
        Where `prepare`, `weights` or `extract` has to run first; when training diverges.
    """
    manifest = project.read_manifest()
    with project.writing(project.finetune_folder()) as scratch:
        project.finetune_folder().mkdir(parents=True, exist_ok=True)
        for mode in modes:
            facts = inputs(project, manifest, mode)
            run = run_folder(project, facts)
            if _is_kept(project, mode, run):
                print(f"finetune: {mode} was trained before, taken from {run}", flush=True)
            else:
                _train(project, manifest, mode, facts, run)
            _publish(run, project.finetune_folder(mode), scratch)
        if tuple(modes) == project.settings.finetune.modes:
            wanted = {project.finetune_folder(mode) for mode in modes}
            for folder in set(project.finetune_folder().iterdir()) - wanted:
                remove(folder)


def inputs(project: Project, manifest: Manifest, mode: str) -> dict[str, Any]:
    """Everything a run depends on: the fingerprint under which it is kept."""
    top = top_layer(project)
    weights = project.read_weights()
    return {
        "revision": 1,  # raised by hand when the training procedure changes
        "mode": mode,
        "manifest": manifest.digest,
        "weights": weights.fingerprint(top.steps),
        "top": top.name,
        "image_size": list(project.image_size),
        # The images as they are: how many views of them are stored plays no part
        "features": {k: v for k, v in project.parameters()["extract"].items() if k != "views"},
        "finetune": project.settings.finetune.model_dump(mode="json", exclude={"modes", "top"}),
        # Said only where it is so: runs of before it could be stay what they are
        **({"refit": True} if project.settings.compare.refit else {}),
    }


def run_folder(project: Project, facts: dict[str, Any]) -> Path:
    """Where the finished run of these inputs is kept, shared by all projects."""
    return runs(project.cache_root) / fingerprint(facts)


def _is_kept(project: Project, mode: str, run: Path) -> bool:
    """Whether the cache has this run whole; one that is damaged is taken away."""
    if not run.exists():
        return False
    if wrong := run_flaw(run):
        print(f"finetune: the kept run of {mode} is damaged and will be trained again ({wrong})", flush=True)
        immutable.discard(project.cache_root, run, run_flaw)
        return run.exists()
    immutable.touch(run)
    return True


def top_layer(project: Project) -> Layer:
    """Resolve `finetune.top`: the layer that the new output layer stands on."""
    asked, network = project.settings.finetune.top, project.settings.weights.network
    if asked == "auto":
        trained = project.read_weights().label(parse_layer("fc7", network).steps) in ("imagenet", "file")
        asked = "fc7" if trained else "pool5"
    return parse_layer(asked, network)


def _publish(run: Path, target: Path, scratch: Path) -> None:
    """Copy a finished run: the cache stays, whatever becomes of the project's outputs."""
    with written_aside(target, scratch=scratch) as aside:
        aside.mkdir()
        for name in FILES:
            (aside / name).write_bytes((run / name).read_bytes())


def _train(project: Project, manifest: Manifest, mode: str, facts: dict[str, Any], run: Path) -> None:
    """Train from the start to the last epoch, keep the best epoch, predict the test rows once."""
    settings = project.settings.finetune
    images = len(manifest.where("train"))
    if settings.batch_size > images:
        raise BadInput(f"finetune.batch_size is {settings.batch_size}, but there are {images} train images")
    started = time.monotonic()
    top = top_layer(project)
    plan = extraction(project, manifest, [top], ("none",))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with it only
    torch.use_deterministic_algorithms(True)
    device = torch.device(plan.choice.device)
    model = _start(project, plan, top, device)
    print(
        f"finetune: {mode} on {device}, new output layer on {top.name}, {_parameters(model):,} parameters, "
        f"{settings.epochs} epochs of {images} images",
        flush=True,
    )
    decoder = Decoder(manifest, plan.source, plan.preprocessing)
    history, best = train(model, decoder, settings, device)
    model.load_state_dict(best)
    logits = scores(model, decoder, manifest.where("validation"), device)
    T = temperature(logits, manifest.labels[manifest.where("validation")])
    chosen = max(history, key=lambda epoch: epoch.rank)
    if project.settings.compare.refit:
        print(f"finetune: {mode} once more, with the validation rows, {chosen.epoch} epochs", flush=True)
        model = _start(project, plan, top, device)
        refit(model, decoder, settings, device, chosen.epoch)
    proba = calibrated(scores(model, decoder, manifest.where("test"), device), T)
    card = {
        "schema": 1,
        "method": f"finetune.{mode}",
        "mode": mode,
        "top": top.name,
        "weights": plan.weights.label(top.steps),
        "inputs": facts,
        "chosen": {"epoch": chosen.epoch},
        "validation": {"top1": chosen.validation_top1, "log_loss": chosen.validation_log_loss},
        "temperature": T,
        "classes": list(manifest.classes),
        "runs": 1,
        "images_seen": settings.epochs * images,  # in training that was scored: not by `refit`
        "fitted_on": ["train", "validation"] if project.settings.compare.refit else ["train"],
        "seconds": round(time.monotonic() - started, 3),
        "trainable_parameters": _parameters(model),
        "device": str(device),
        "versions": {"torch": version("torch")},
    }
    with immutable.appearing(project.cache_root, run) as aside:
        save_tensors(_state(model), aside / "model.safetensors")
        write_csv(aside / "history.csv", list(vars(history[0])), [tuple(vars(e).values()) for e in history])
        Predictions.of(manifest, "test", proba).write(aside / "predictions.npz")
        immutable.seal(aside, RUN_CARD, card)


def _start(project: Project, plan: Extraction, top: Layer, device: torch.device) -> Tuned:
    """Build the model as training starts from it: the same every time."""
    settings = project.settings.finetune
    torch.manual_seed(settings.seed)
    model = Tuned(top, plan.weights, len(plan.manifest.classes), top.width(project.image_size))
    if settings.head_start == "head":
        _start_from_head(model, project, plan, top)
    return model.to(device).to(memory_format=torch.channels_last)


def _start_from_head(model: Tuned, project: Project, plan: Extraction, top: Layer) -> None:
    """Fit a logistic regression on the frozen activations of the train rows; C by validation rows."""
    manifest = plan.manifest
    try:
        store = project.store(top, manifest)
        X, y = store.rows(np.arange(len(manifest)), view=0), store.labels
    except BadInput:  # not among the published layers: from the cache, or through the network
        X, y = plan.activations(top), manifest.labels
    rows = Rows(X, y, units(manifest.rows))
    fold = Fold(*(rows.take(manifest.where(split)) for split in ("train", "validation")))
    tuned = tune(LogReg, START_GRID, ["standard"], [fold], manifest.classes)
    head, normalisation = tuned.classifier.head, tuned.classifier.normalisation
    assert isinstance(head, LinearHead)  # noqa: S101 - narrows the type: LogReg is one
    with torch.no_grad():
        model.output.weight.copy_(torch.from_numpy(head.coef_))
        model.output.bias.copy_(torch.from_numpy(head.intercept_))
        model.feature_mean.copy_(torch.from_numpy(normalisation.mean))
        model.feature_scale.copy_(torch.from_numpy(normalisation.scale))


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _state(model: Tuned) -> dict[str, NDArray[Any]]:
    return {name: tensor.cpu().contiguous().numpy() for name, tensor in model.state_dict().items()}


def read_card(project: Project, mode: str) -> dict[str, Any]:
    """Read a published baseline's card; BadInput where `finetune` has to run first."""
    path = project.finetune_folder(mode) / "card.json"
    if not path.exists():
        raise BadInput(f"there is no {path.parent}; run `python cli.py finetune --mode {mode}` first")
    return read_json(path)
