"""A project folder: where everything lies, and whether what lies there fits the settings.

project = Project.open(Path("."), overrides=["dataset.seed=1"])
manifest = project.read_manifest()      # BadInput where `prepare` has to run first
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from filelock import FileLock, Timeout

from features.errors import BadInput, Damaged
from features.files import read_text, remove
from features.immutable import read_card
from features.manifest import Manifest
from features.network import Layer, Size, parse_layer
from features.weights import Weights
from pipeline.made_with import Other, differing, in_words, or_back, way_back
from pipeline.params import ARRAYS, AUTO_SIZE, Settings, load

if TYPE_CHECKING:
    from features.store import FeatureStore

WHICH_IMAGES = {"dataset.name", "dataset.root", "dataset.csv"}


@dataclass(frozen=True)
class Project:
    """Paths and settings; the working directory has no effect on either."""

    root: Path
    settings: Settings

    @classmethod
    def open(cls, root: Path, overrides: Sequence[str] = ()) -> "Project":
        """Read `params.yaml` in `root` (see `pipeline.params.load`)."""
        root = root.resolve()
        return cls(root, load(root / "params.yaml", overrides))

    @property
    def artifacts(self) -> Path:
        """Everything the stages make, besides metrics and report."""
        return self.root / "artifacts"

    @property
    def manifest(self) -> Path:
        """See `features.manifest`."""
        return self.artifacts / "manifest.csv"

    @property
    def problems(self) -> Path:
        """See `pipeline.datasets.prepare`."""
        return self.artifacts / "problems.csv"

    @property
    def dataset_record(self) -> Path:
        """The parameters behind the manifest."""
        return self.artifacts / "dataset.json"

    @property
    def weights_folder(self) -> Path:
        """See `features.sources.write`."""
        return self.artifacts / "weights"

    @property
    def features(self) -> Path:
        """The published stores."""
        return self.artifacts / "features"

    @property
    def extract_record(self) -> Path:
        """What the last extraction did: see `pipeline.stores.extract`."""
        return self.artifacts / "extract.json"

    @property
    def report(self) -> Path:
        """The page people look at."""
        return self.root / "report" / "index.html"

    @property
    def predictions(self) -> Path:
        """One `.npz` per method: see `pipeline.records.predictions`."""
        return self.artifacts / "predictions"

    @property
    def plots(self) -> Path:
        """Tables that `dvc plots` draws."""
        return self.artifacts / "plots"

    @property
    def comparison(self) -> Path:
        """Everything that was compared: see `pipeline.records.comparison.Line`."""
        return self.artifacts / "comparison.json"

    @property
    def per_class(self) -> Path:
        """Precision and recall of every class by every method."""
        return self.artifacts / "per_class.csv"

    @property
    def costs(self) -> Path:
        """Seconds and parameters per method."""
        return self.artifacts / "costs.json"

    @property
    def metrics(self) -> Path:
        """What DVC compares between revisions."""
        return self.root / "metrics.json"

    @property
    def studies(self) -> Path:
        """What `advise`, `curve`, `layer-map` and `sweep-cut` found."""
        return self.artifacts / "studies"

    def predictions_file(self, method: str) -> Path:
        """A method's predictions of the test rows, `:` written as `-`."""
        return self.predictions / f"{method.replace(':', '-')}.npz"

    def head_folder(self, head: str) -> Path:
        """One folder per method of this head, in it `card.json`, `head.safetensors`, …."""
        return self.artifacts / "heads" / head

    def finetune_folder(self, mode: str = "") -> Path:
        """One folder per mode, `:` written as `-`."""
        return self.artifacts / "finetune" / mode.replace(":", "-")

    @property
    def dataset_root(self) -> Path:
        """The folder of images; a relative one is relative to the project."""
        return self.root / self.settings.dataset.root

    @property
    def cache_root(self) -> Path:
        """`PENULTIMATE_CACHE`, else `cache.root`, else the user's cache folder."""
        chosen = os.environ.get("PENULTIMATE_CACHE") or self.settings.cache.root
        return self.root / chosen if chosen else platformdirs.user_cache_path("penultimate")

    @property
    def image_size(self) -> Size:
        """Height and width at the network's input."""
        size = self.settings.extract.image_size
        if size == "auto":
            return AUTO_SIZE[self.settings.dataset.name]
        return size if isinstance(size, tuple) else (size, size)

    @property
    def crop(self) -> bool:
        """Whether images are cropped to the network's shape: photographs are, arrays are resized whole."""
        return self.settings.dataset.name not in ARRAYS

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers to keep, the control `pixels` last."""
        extract = self.settings.extract
        names = (*extract.layers, *(["pixels"] if extract.pixels else []))
        return tuple(dict.fromkeys(parse_layer(name, self.settings.weights.network) for name in names))

    def parameters(self) -> dict[str, Any]:
        """What features depend on besides the manifest: recorded in every store and card."""
        extract = self.settings.extract.model_dump(mode="json", exclude={"layers", "pixels"})
        return {
            "device": self.settings.device,
            "weights": self.settings.weights.model_dump(mode="json"),
            "extract": {**extract, "image_size": list(self.image_size)},
        }

    def read_manifest(self) -> Manifest:
        """Read the manifest; BadInput where it is missing or of other settings."""
        if not self.manifest.exists() or not self.dataset_record.exists():
            raise BadInput(f"there is no {self.manifest}; run `python cli.py prepare` first")
        try:
            record = read_card(self.artifacts, self.dataset_record.name)
        except Damaged as error:
            raise BadInput(f"{self.artifacts}: {error}; run `python cli.py prepare` again") from error
        others = self._other_dataset(record["parameters"])
        if WHICH_IMAGES & {other.key for other in others}:
            raise BadInput(
                f"{self.manifest} was made with {in_words(others)}; {way_back(others)} "
                "(`python cli.py prepare` replaces it by one of the images that are named now)"
            )
        _same(others, self.manifest, "prepare")
        manifest = Manifest.read(self.manifest)
        if manifest.digest != record["manifest"]:
            raise BadInput(f"{self.manifest} was edited since it was made; run `python cli.py prepare` again")
        return manifest

    def _other_dataset(self, made: Mapping[str, Any]) -> list[Other]:
        asked = self.settings.dataset.model_dump(mode="json", exclude={"download"})
        others = differing(made, asked, "dataset.")
        return [other for other in others if other.known or other.key != "dataset.csv"]  # was not read

    def check_kind_of_images(self) -> None:
        """BadInput where new images would be cut or resized in another way than the manifest's were."""
        if not self.dataset_record.exists():
            return
        made = read_json(self.dataset_record)["parameters"]
        kinds = [(name in ARRAYS, AUTO_SIZE.get(name)) for name in (made["name"], self.settings.dataset.name)]
        if kinds[0] != kinds[1]:
            others = self._other_dataset(made)
            raise BadInput(f"{self.manifest} was made with {in_words(others)}; {way_back(others)}")

    def read_weights(self) -> Weights:
        """Open the weights; BadInput where they are missing or of other settings."""
        if not (self.weights_folder / "provenance.json").exists():
            raise BadInput(
                f"there are no weights in {self.weights_folder}; run `python cli.py weights` first"
            )
        weights = Weights.open(self.weights_folder)
        asked = self.settings.weights.model_dump(mode="json")
        _same(differing(weights.provenance["parameters"], asked, "weights."), self.weights_folder, "weights")
        return weights

    def store(self, layer: Layer, manifest: Manifest) -> "FeatureStore":
        """Open a layer's store; BadInput where it is missing or of another manifest or settings."""
        from features.store import FeatureStore  # noqa: PLC0415 - imports zarr

        store = FeatureStore.open(self.features / f"{layer.stem}.zarr")
        _same(differing(store.attributes["parameters"], self.parameters()), store.path, "extract")
        if store.attributes["manifest"] != manifest.digest:
            raise BadInput(f"{store.path} is of another manifest; run `python cli.py extract` first")
        return store

    def others_of_store(self, layer: Layer, fingerprint: str) -> list[Other]:
        """Settings that a layer's store was made with and that are others now, if it has this fingerprint."""
        record = self.features / f"{layer.stem}.zarr" / "zarr.json"
        attributes = read_json(record)["attributes"] if record.exists() else {}
        if attributes.get("fingerprint") != fingerprint:
            return []
        return differing(attributes["parameters"], self.parameters())

    @contextlib.contextmanager
    def writing(self, what: Path) -> Iterator[Path]:
        """Be the only writer of `what`; yields a scratch folder for unfinished things.

        The folder is on the artifacts' file system and outside every stage's
        output. The lock dies with the process; what a killed writer left in the
        folder is removed by the next one. BadInput for a second writer.
        """
        name = what.relative_to(self.root).as_posix().replace("/", "-")
        scratch = self.artifacts / ".scratch" / name
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(scratch.with_suffix(".lock"), timeout=0):
                for leftover in scratch.iterdir():
                    remove(leftover)
                yield scratch
        except Timeout:
            raise BadInput(f"another process is writing {what}; wait for it, or stop it") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; BadInput where the file is damaged."""
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise BadInput(f"{path} is damaged ({error}); run the command that makes it again") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} is damaged: it holds no object; run the command that makes it again")
    return content


def _same(others: Sequence[Other], what: Path, command: str) -> None:
    """Refuse what was made with other settings than those of now."""
    if others:
        raise BadInput(
            f"{what} was made with {in_words(others)}; {or_back(f'python cli.py {command}', others)}"
        )
