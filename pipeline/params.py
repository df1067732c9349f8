"""params.yaml, parsed once into frozen settings.

    settings = load(Path("params.yaml"), overrides=["extract.layers=[fc7]"])

Every key must be there (a head may be left out), no other may be, and no value is silently converted:
`1e-3` is a number and `"1e-3"` is not, `no` is text (YAML 1.2, as DVC reads it).
An override of a key that takes text is that text (see `pipeline.overrides`).
"""

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from features.cuts import parse_mode
from features.errors import BadInput
from features.files import read_text
from features.network import MINIMUM_SIZE, NETWORKS, Size, parse_layer
from features.views import names
from pipeline.overrides import value_of

# The data sets, and what `extract.image_size: auto` means for each. 224: the VGG paper's. 48 for 8 × 8
# digits: a whole run with a fine-tuned baseline within minutes on two cores. 32: CIFAR-10's own size, and
# the network's smallest.
AUTO_SIZE: dict[str, Size] = {
    "digits": (48, 48),
    "mnist": (32, 32),
    "fashion-mnist": (32, 32),
    "cifar10": (32, 32),
    "folder": (224, 224),
    "csv": (224, 224),
}
ARRAYS = ("digits", "mnist", "fashion-mnist", "cifar10")  # of these: arrays in a few files, never cropped
MAXIMUM_SIZE = 2048  # pixels: one image's first activation then takes 1 GB
MOST_VALUES = 10_000  # of a grid
GRID = "should be a list of numbers, or {low, high, count}, or text such as 45 from 1e-6 to 1e5"
NUMBER = r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
SPREAD = re.compile(rf"\s*(?P<count>\d+)\s+from\s+(?P<low>{NUMBER})\s+to\s+(?P<high>{NUMBER})\s*", re.ASCII)


class Model(BaseModel):
    """A section of params.yaml: frozen, complete, and nothing besides."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError("should be auto, cpu, cuda, cuda:N or mps")
    return value


def _path(value: str) -> str:
    if value == "~" or value.startswith("~/"):
        raise ValueError(
            f"~ is not expanded, here or by DVC; write the whole path: {Path(value).expanduser()}"
        )
    if not value.strip():
        raise ValueError("should name a folder or file")
    if "\0" in value:
        raise ValueError("should name a folder or file, and no name has a NUL in it")
    return value


def _views(value: str) -> str:
    names(value)
    return value


def _engine(value: Any) -> Any:
    """Take `ncnn` for `winograd`, which took its place: files that name it keep working."""
    return "winograd" if value == "ncnn" else value


def _below_root(value: str) -> str:
    path = Path(value)
    if path.anchor or path == Path() or {"..", "~"} & set(path.parts):
        raise ValueError("should name a table below dataset.root, relative to it: DVC tracks that folder")
    return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("should not name anything twice")
    return values


def _as_list(value: Any) -> Any:
    """Take one value for a list of one."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _image_size(value: Any, validate: Any) -> Any:
    try:
        return validate(tuple(value) if isinstance(value, list) else value)
    except ValidationError:
        limits = f"each from {MINIMUM_SIZE} to {MAXIMUM_SIZE}"
        raise ValueError(f"should be auto, a number of pixels or [height, width], {limits}") from None


def _spread(value: Any) -> Any:
    """Write `45 from 1e-6 to 1e5`, or {low, high, count}, out: evenly on a logarithmic scale."""
    if isinstance(value, str):
        value = _in_numbers(value)
    if not isinstance(value, dict):
        return tuple(value) if isinstance(value, list) else value
    if set(value) != {"low", "high", "count"}:
        raise ValueError(GRID)
    low, high, count = value["low"], value["high"], value["count"]
    if any(type(end) not in (int, float) for end in (low, high)) or not 0 < low < high < math.inf:
        raise ValueError("low and high should be numbers with 0 < low < high")
    if type(count) is not int or not 2 <= count <= MOST_VALUES:
        raise ValueError(f"count should be an integer from 2 to {MOST_VALUES:,}")
    return tuple(float(f"{number:.6g}") for number in np.geomspace(low, high, count))


def _in_numbers(text: str) -> dict[str, float]:
    if not (match := SPREAD.fullmatch(text)):
        raise ValueError(GRID)
    return {"low": float(match["low"]), "high": float(match["high"]), "count": int(match["count"])}


def in_short(values: Sequence[float]) -> str | None:
    """A grid's values as `45 from 1e-06 to 100000`; None where they are not spread like that."""
    low, high = min(values), max(values)
    text = f"{len(values)} from {low:g} to {high:g}"
    return text if len(values) > 1 and 0 < low < high and _spread(text) == tuple(values) else None


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# Beyond, a problem is one of rounding: solvers take minutes for an answer that says nothing
Strength = Annotated[float, Field(ge=1e-10, le=1e10)]
Grid = Annotated[
    tuple[Strength, ...], Field(min_length=1), AfterValidator(_distinct), BeforeValidator(_spread)
]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(_distinct)]
Value = TypeVar("Value")
OneOrMore = Annotated[
    tuple[Value, ...], Field(min_length=1), AfterValidator(_distinct), BeforeValidator(_as_list)
]
Number = Annotated[int, Field(ge=1)]
ClassWeight = Literal["balanced"] | None
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Side = Annotated[int, Field(ge=MINIMUM_SIZE, le=MAXIMUM_SIZE)]


class Dataset(Model):
    """Which images, and how they are split."""

    name: Literal[tuple(AUTO_SIZE)]  # type: ignore[valid-type]
    root: Annotated[str, AfterValidator(_path)]
    csv: Annotated[str, AfterValidator(_below_root)]
    download: bool
    seed: Seed
    validation_fraction: Fraction
    test_fraction: Fraction
    at_most: tuple[Number, Number, Number] | None

    @model_validator(mode="after")
    def _train_is_left(self) -> "Dataset":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction should leave images for train: sum below 1")
        return self

    def recorded(self) -> dict[str, Any]:
        """What a manifest depends on: not the leave to download, nor a table that is not read."""
        unread = {"download"} if self.name == "csv" else {"download", "csv"}
        return self.model_dump(mode="json", exclude=unread)


class WeightsSettings(Model):
    """Which network, and where its weights come from."""

    network: Literal[NETWORKS]  # type: ignore[valid-type]
    sources: Annotated[
        tuple[Literal["torchvision", "wheel", "file", "random"], ...],
        Field(min_length=1),
        AfterValidator(_distinct),
    ]
    file: Annotated[str, AfterValidator(_path)] | None
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None
    seed: Seed

    @model_validator(mode="after")
    def _file_is_named(self) -> "WeightsSettings":
        if "file" in self.sources and self.file is None:
            raise ValueError("sources names `file`, so weights.file should name one")
        return self


class Extract(Model):
    """Which activations are kept, and how they are computed."""

    layers: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
    pixels: bool
    image_size: Annotated[Literal["auto"] | Side | tuple[Side, Side], WrapValidator(_image_size)]
    engine: Annotated[Literal["auto", "torch", "winograd"], BeforeValidator(_engine)]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    dtype: Literal["float16", "float32"]
    views: Annotated[str, AfterValidator(_views)]


class CacheSettings(Model):
    """Where activations and finished runs are kept."""

    root: Annotated[str, AfterValidator(_path)] | None


class Tuning(Model):
    """What every head's tuning shares."""

    normalisation: Annotated[
        tuple[Literal["none", "l2", "standard"], ...], Field(min_length=1), AfterValidator(_distinct)
    ]
    score: Literal["top1", "macro-f1", "log-loss"] = "top1"  # files from before there was a choice have none
    protocol: Literal["validation", "cross-validation", "nested"]
    folds: Annotated[int, Field(ge=2)]
    repeats: Annotated[int, Field(ge=1)]
    rule: Literal["best", "one-standard-error"]
    seed: Seed
    memory_gb: Positive


class LinearGrid(Model):
    """Grid of a linear head."""

    C: Grid
    class_weight: ClassWeight


class KernelGrid(Model):
    """Grid of the RBF-SVM."""

    C: Grid
    gamma: Grid
    class_weight: ClassWeight


class MlpGrid(Model):
    """Grid of the multi-layer perceptron."""

    hidden: Counts
    learning_rate: Grid
    weight_decay: NotNegative
    class_weight: ClassWeight
    batch_size: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]
    seed: Seed


class NeighbourGrid(Model):
    """Grid of the nearest-neighbour control."""

    k: Counts


class Nothing(Model):
    """A head with nothing to choose."""


class Heads(Model):
    """The heads to train; one that is null, or left out, is not trained."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))

    logreg: LinearGrid | None = None
    linear_svm: LinearGrid | None = None
    rbf_svm: KernelGrid | None = None
    mlp: MlpGrid | None = None
    knn: NeighbourGrid | None = None
    majority: Nothing | None = None

    def named(self) -> dict[str, Model]:
        """The heads that are there, by the names users write (`linear-svm`)."""
        heads = {name.replace("_", "-"): getattr(self, name) for name in type(self).model_fields}
        return {name: head for name, head in heads.items() if head is not None}

    def switched_off(self) -> list[str]:
        """The heads that are there and null: DVC has a stage for each of them, too."""
        given = [name for name in type(self).model_fields if name in self.model_fields_set]
        return [name.replace("_", "-") for name in given if getattr(self, name) is None]


class Finetune(Model):
    """The ways to train the network itself: the baselines."""

    modes: Annotated[tuple[str, ...], AfterValidator(_distinct)]
    top: Literal["auto", "pool5", "fc7"]
    head_start: Literal["head", "random"]
    epochs: Annotated[int, Field(ge=1)]
    patience: Annotated[int, Field(ge=1)] | None
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: OneOrMore[Positive]
    weight_decay: OneOrMore[NotNegative]
    sweep: Literal["halving", "all"]
    pretrained_factor: Annotated[float, Field(gt=0, le=1)]
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    augment: Literal["none", "views", "crop", "flip", "crop-flip"]
    precision: Literal["auto", "fp32", "bf16"]
    cache_gb: NotNegative
    seed: Seed

    def mixed(self, device: str) -> bool:
        """Whether forward and backward run in bfloat16; `auto` is on CUDA only."""
        return self.precision == "bf16" or (self.precision == "auto" and device == "cuda")


class Compare(Model):
    """The comparison."""

    baseline: str
    refit: bool
    ensemble: bool
    seeds: Annotated[int, Field(ge=1, le=100)]
    resamples: Annotated[int, Field(ge=100)]
    seed: Seed


class Settings(Model):
    """All of params.yaml."""

    device: Annotated[str, AfterValidator(_device)]
    dataset: Dataset
    weights: WeightsSettings
    extract: Extract
    cache: CacheSettings
    tuning: Tuning
    heads: Heads
    finetune: Finetune
    compare: Compare

    @model_validator(mode="after")
    def _layers_exist(self) -> "Settings":
        for name in self.extract.layers:
            parse_layer(name, self.weights.network)
        for name in (*self.finetune.modes, self.compare.baseline):
            parse_mode(name, self.weights.network)
        if "pixels" in self.extract.layers:
            raise ValueError("extract.layers should not name pixels: extract.pixels switches that control")
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read params.yaml, apply `key=value` overrides, and validate.

    Raises
    ------
    BadInput
        Naming the key, what is allowed and what was received.
    """
    return parse(_overridden(read_yaml(path), overrides), path.name)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping; BadInput where the file is not one."""
    try:
        content = YAML(typ="safe", pure=True).load(read_text(path))
    except FileNotFoundError:
        raise BadInput(f"there is no {path}; --project names the folder that holds it") from None
    except NotADirectoryError:
        raise BadInput(
            f"{path.parent} is no folder; --project names the folder that holds {path.name}"
        ) from None
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path} is not valid YAML: {reason}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} should hold sections such as `dataset:`, and holds {content!r:.40}")
    return content


def _overridden(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        try:
            override.encode()
        except UnicodeEncodeError:
            raise BadInput(f"-S {override!r} is not UTF-8, as params.yaml is; rename what it names") from None
        key, equals, text = override.removeprefix("params.yaml:").partition("=")
        if not equals:
            raise BadInput(f"-S {override!r} should be key=value, as in -S 'extract.layers=[fc7]'")
        *path, last = key.split(".")
        section: Any = content
        for name in path:
            section = section.get(name) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise BadInput(f"-S {override!r}: there is no parameter {key!r}{_nearest(key, keys(content))}")
        try:
            section[last] = value_of(text, text_is_meant=takes_text(key))
        except YAMLError as error:
            raise BadInput(f"-S {override!r}: {text!r} is not a YAML value") from error
    return content


def takes_text(key: str) -> bool:
    """Whether a parameter is text, or null, and nothing else."""
    annotation: Any = Settings
    for name in key.split("."):
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return False
        found = {info.alias or field: info.annotation for field, info in annotation.model_fields.items()}
        annotation = found.get(name)
        sections = [each for each in get_args(annotation) if isinstance(each, type)]
        annotation = next((each for each in sections if issubclass(each, BaseModel)), annotation)
    return all(leaf in (str, type(None)) for leaf in _leaves(annotation))


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types of a union, of literals their values' types."""
    origin = get_origin(annotation)
    if origin is Literal:
        yield from (type(value) for value in get_args(annotation))
    elif origin is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for each in get_args(annotation):
            yield from _leaves(each)
    else:
        yield annotation


def keys(content: Mapping[str, Any], above: str = "") -> list[str]:
    """Every parameter's dotted name."""
    names = []
    for name, value in content.items():
        names.append(f"{above}{name}")
        if isinstance(value, Mapping):
            names += keys(value, f"{above}{name}.")
    return names


def _nearest(key: str, known: Sequence[str]) -> str:
    known = [name for name in known if name.count(".") == key.count(".")]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def parse(content: Mapping[str, Any], name: str) -> Settings:
    """Validate a mapping as params.yaml's content (see `load`)."""
    try:
        # Through JSON: there, pydantic's strict mode still takes a list for a tuple and 1 for 1.0.
        return Settings.model_validate_json(json.dumps(content, default=_refuse))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise BadInput(f"{name}: {error}") from error
        raise BadInput(f"{name}: {'; '.join(_sentences(error.errors()))}") from error


def _refuse(value: Any) -> Any:
    raise TypeError(f"{value} is read as a {type(value).__name__}; put it in quotes to have the text")


def _sentences(errors: Sequence[ErrorDetails]) -> list[str]:
    sentences: list[str] = []
    seen: list[tuple[int | str, ...]] = []
    for error in errors:
        location = error["loc"]
        if any(earlier[: len(location)] == location for earlier in seen):
            continue  # says again, of the whole, what was said of a part
        seen.append(location)
        key = ".".join(str(part) for part in location)
        if error["type"] == "extra_forbidden":
            known = keys(_every_key(), "")
            sentences.append(f"there is no parameter {key!r}{_nearest(key, known)}")
        elif error["type"] == "missing":
            sentences.append(f"the parameter {key!r} is missing")
        else:
            message = error["msg"].removeprefix("Value error, ")
            message = message[0].lower() + message[1:]
            received = "" if isinstance(error["input"], dict) else f" (received {error['input']!r})"
            sentences.append(f"{key}: {message}{received}" if key else message)
    return sentences


def _every_key() -> dict[str, Any]:
    def fields(model: type[BaseModel]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, info in model.model_fields.items():
            inner = [
                t for t in (info.annotation, *getattr(info.annotation, "__args__", ())) if isinstance(t, type)
            ]
            section = next((t for t in inner if issubclass(t, BaseModel)), None)
            found[info.alias or name] = fields(section) if section else None
        return found

    return fields(Settings)
