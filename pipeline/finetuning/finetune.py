"""The ways to train the network itself, on the same split as the heads: the baselines.

    python cli.py finetune --mode full
    python cli.py finetune --mode freeze:conv4_3

Per mode: `artifacts/finetune/<mode>/` with `model.safetensors` (torchvision's
parameter names, and the new output layer), `history.csv`, `predictions.npz` and `card.json`,
which has the others' digests. A finished run is kept under the cache root, checked
and published from there: nothing is trained twice. One under way has its checkpoints there.
Where `compare.seeds` asks for several random starts, `seeds.json` says what each reached.
"""

from collections.abc import Sequence
from pathlib import Path

from features.files import read_bytes, remove, written_aside
from pipeline.finetuning.plan import Plan, plans
from pipeline.finetuning.run import FILES, obtained
from pipeline.project import Project
from pipeline.records.runs import reached
from pipeline.records.seeds import write_seeds


def finetune(project: Project, names: Sequence[str]) -> None:
    """Train the baselines that are not there yet; publish all of them.

    Raises
    ------
    BadInput
        For a mode that there is not; where `prepare`, `weights` or `extract` has to run first;
        when training diverges.
    """
    manifest = project.read_manifest()
    asked = [plans(project, manifest, name, project.settings.compare.seeds) for name in names]
    with project.writing(project.finetune_folder()) as scratch:
        project.finetune_folder().mkdir(parents=True, exist_ok=True)
        for plans_of_mode in asked:
            _publish(plans_of_mode, project.finetune_folder(plans_of_mode[0].mode.name), scratch)
        if tuple(names) == project.settings.finetune.modes:
            wanted = {project.finetune_folder(name) for name in names}
            for folder in set(project.finetune_folder().iterdir()) - wanted:
                remove(folder)
        note = project.finetune_folder() / "README.md"
        remove(note)
        if not names:
            _say_that_there_is_none(note, scratch)


def _say_that_there_is_none(note: Path, scratch: Path) -> None:
    """Put a word into a folder without baselines: DVC warns of an empty one."""
    with written_aside(note, scratch=scratch) as aside:
        aside.write_text("No network was trained: finetune.modes is [].\n", "utf-8")


def _publish(asked: Sequence[Plan], target: Path, scratch: Path) -> None:
    """Copy the first seed's run, and what the others reached: the cache stays, whatever becomes of this."""
    kept = [obtained(plan) for plan in asked]
    with written_aside(target, scratch=scratch) as aside:
        aside.mkdir()
        for name in FILES:
            (aside / name).write_bytes(read_bytes(kept[0] / name))
        seeds = [reached(folder, plan.settings.seed) for folder, plan in zip(kept, asked, strict=True)]
        write_seeds(aside, seeds)
