"""Where the numbers come from, and the commands that make them again."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.params import Settings, load
from pipeline.project import Project, read_json
from pipeline.report.compared import Compared
from pipeline.report.section import Section

PLAIN = re.compile(r"[A-Za-z/][\w./:-]*\w")


def section(compared: Compared) -> Section:
    """Images, weights, extraction, versions, digests, commands."""
    project = compared.project
    weights = read_json(project.weights_folder / "provenance.json")
    stores = _stores(project)
    content = {
        "dataset": read_json(project.dataset_record),
        "weights": weights,
        "untrained": [layer for layer, state in weights["layers"].items() if state == "untrained"],
        "extraction": read_json(project.extract_record),
        "versions": dict(
            sorted({k: v for store in stores.values() for k, v in store["versions"].items()}.items())
        ),
        "digests": {"manifest": compared.manifest.digest}
        | {f"features {layer}": store["fingerprint"] for layer, store in stores.items()},
        "command": " ".join(["python cli.py run", *(f"-S {shlex.quote(o)}" for o in overrides(project))]),
    }
    return Section("provenance", "Where the numbers come from", content)


def _stores(project: Project) -> dict[str, dict[str, Any]]:
    """What the published stores say of themselves, by layer; read as JSON, since nothing else is needed."""
    found = {}
    for layer in project.layers:
        path = project.features / f"{layer.stem}.zarr" / "zarr.json"
        if path.exists():
            found[layer.name] = read_json(path)["attributes"]
    return found


def overrides(project: Project) -> list[str]:
    """The settings that differ from the project's `params.yaml`, as `key=value`."""
    committed = _plain(load(project.root / "params.yaml"))
    return list(_differences(committed, _plain(project.settings)))


def _plain(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json", by_alias=True)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in now.items():
        if isinstance(value, Mapping) and isinstance(before.get(name), Mapping):
            yield from _differences(before[name], value, f"{above}{name}.")
        elif value != before.get(name):
            yield f"{above}{name}={_yaml(value)}"


def _yaml(value: Any) -> str:
    """Write a value as YAML on one line: JSON is such, and a plain name needs no quotes."""
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null"):
        return value
    return json.dumps(value, ensure_ascii=False)
