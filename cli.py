"""Penultimate's command line: it only parses, and calls.

    python cli.py run                                    # every stage in order, without DVC
    python cli.py extract --layer fc7 --layer pool5:avg
    python cli.py train --head logreg -S 'heads.logreg.C=[0.1,1,10]'

Nothing heavy is imported before a command runs: `--help` answers at once.
"""

import errno
import functools
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.project import Project

HERE = Path(__file__).resolve().parent


class Commands(click.Group):
    """Lists commands in the order in which a user needs them; turns errors into sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands as they stand in this file."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command: exit 2 with one sentence for what the user can mend, 130 when interrupted."""
        _open_outputs()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a reader that has gone is no error
        except KeyboardInterrupt:
            _fail("interrupted; what was finished is kept, run the command again to go on", code=130)
        except ModuleNotFoundError as error:
            if error.name and error.name.split(".")[0] in ("features", "pipeline"):
                raise
            _fail(f"{error.name} is not installed for {sys.executable}; run `make`, or use .venv/bin/python")
        except OSError as error:
            if error.errno == errno.EPIPE and not error.filename:
                _leave_quietly()
            _fail(outside(error))
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not NO_MEMORY.search(str(error)):
                raise
            reason = str(error).partition("\n")[0] or "none is left"
            _fail(f"not enough memory ({reason}); {LESS} and run again; finished work is kept")
        except ValueError as error:
            from features.errors import BadInput

            if not isinstance(error, BadInput):
                raise
            _fail(str(error), options=ctx.obj or "")
        else:
            return result


def _leave_quietly() -> None:
    """End as a Unix tool does whose reader has gone (`| head`): by the signal's code, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed goes there
    sys.exit(128 + 13)  # SIGPIPE


def outside(error: OSError) -> str:
    """An error of the machine in one sentence: which file, what the system says, what to do."""
    name = error.filename if error.filename2 is None else error.filename2
    where = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else "a file"
    reason = error.strerror or str(error) or type(error).__name__
    return f"{where}: {reason}; {OUTSIDE.get(error.errno or 0, AGAIN)}"


# torch has an error of its own for it on a GPU, and none on a CPU
NO_MEMORY = re.compile("allocate memory|out of memory", re.IGNORECASE)
LESS = "close other programs, or use fewer images, layers or a smaller batch,"
AGAIN = "see to the drive or the connection that it is on, and run again; finished work is kept"
ELSEWHERE = (
    "a project may be copied elsewhere, or another one named with --project; the cache is where "
    "PENULTIMATE_CACHE or cache.root says"
)
OUTSIDE = {  # errors of the machine, and what to do about them
    errno.EACCES: f"make it readable and writable; {ELSEWHERE}",
    errno.EPERM: f"make it readable and writable; {ELSEWHERE}",
    errno.EROFS: f"this file system is read-only; {ELSEWHERE}",
    errno.ENOTDIR: "a file stands where a folder is needed; move it away",
    errno.EEXIST: "a file stands where a folder is needed; move it away",
    errno.EISDIR: "a folder stands where a file is needed; move it away",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run again; finished work is kept",
    errno.ENOSPC: "free some space and run again; finished work is kept",
    errno.EDQUOT: "free some of your quota and run again; finished work is kept",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n) and run again",
    errno.ENFILE: "too many files are open on this machine; close other programs and run again",
    errno.ENOENT: "it is missing or was taken away meanwhile; put it back, or run what makes it",
    errno.ENAMETOOLONG: "give it a shorter name, or keep the folder nearer to the root",
    errno.ELOOP: "its symbolic links lead in a circle; point them at a file",
    errno.ENOTEMPTY: "something else writes into this folder; let it finish and run again",
    errno.EXDEV: "it lies on another file system; choose a folder on the same one",
    errno.ENOMEM: f"not enough memory; {LESS} and run again; finished work is kept",
    errno.EBUSY: "another program uses it; let it finish and run again",
    errno.ETXTBSY: "another program uses it; let it finish and run again",
    errno.EINVAL: "this file system does not take that; copy the project to another, or use --project",
    errno.EOPNOTSUPP: "this file system does not take that; copy the project to another, or use --project",
    errno.ENOLCK: "this file system has no locks; copy the project to another, or use --project",
}


def pasted(sentence: str, options: str) -> str:
    """Complete the commands that a sentence names: they work from here, in this project, with these `-S`."""
    program = "cli.py" if Path("cli.py").resolve() == HERE / "cli.py" else shlex.quote(str(HERE / "cli.py"))

    def completed(found: re.Match[str]) -> str:
        return f"`python {program}{found[1]}{'' if '-S ' in found[1] else options}`"

    return re.sub(r"`python cli\.py( [^`]*)`", completed, sentence)


def _open_outputs() -> None:
    """Let every output take every text: one that is closed goes nowhere, what it cannot show is escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for the whole process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _fail(sentence: str, *, code: int = 2, options: str = "") -> None:
    click.echo(f"penultimate: {pasted(' '.join(sentence.split()), options)}", err=True)
    sys.exit(code)


def place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `-S` and `--project`: `overrides` and `folder`."""
    overrides = click.option(
        "-S",
        "--set-param",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a parameter for this run; repeatable. Quote it: -S 'extract.layers=[fc7]'.",
    )
    project = click.option(
        "--project",
        "folder",
        type=click.Path(path_type=Path),
        default=HERE,
        help="Folder with params.yaml, artifacts, metrics and report.  [default: the folder of cli.py]",
    )
    return overrides(project(command))


def project_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `-S` and `--project`, and pass it the opened project."""

    @place_options
    @functools.wraps(command)
    def wrapped(overrides: tuple[str, ...], folder: Path, **options: Any) -> None:
        from pipeline.project import Project

        given = [] if folder == HERE else ["--project", str(folder)]
        given += [word for override in overrides for word in ("-S", override)]
        options_given = "".join(f" {shlex.quote(word)}" for word in given)
        click.get_current_context().find_root().obj = options_given if options_given.isprintable() else ""
        command(Project.open(folder, overrides), **options)

    return wrapped


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option("0.1.0", prog_name="penultimate")
def main() -> None:
    """Run a frozen VGG16 over your images once; train and compare everything else on the cache.

    \b
    The whole pipeline:     dvc repro            (or, without DVC: python cli.py run)
    Your own images:        python cli.py run -S dataset.name=folder -S dataset.root=/path/to/images
    """


@main.command()
@click.option("--strict", is_flag=True, help="An image that has to be set aside is an error.")
@project_options
def prepare(project: "Project", strict: bool) -> None:
    """List, check and split the images: artifacts/manifest.csv, problems.csv.

    \b
    python cli.py prepare
    python cli.py prepare --strict -S dataset.name=folder -S dataset.root=/path/to/images
    python cli.py prepare -S dataset.name=csv -S dataset.root=/path/to/images -S dataset.csv=images.csv
    python cli.py prepare -S dataset.name=cifar10 -S dataset.download=true
    """
    from pipeline.datasets.prepare import prepare

    prepare(project, strict=strict)


@main.command()
@project_options
def weights(project: "Project") -> None:
    """Get and verify the network's weights: artifacts/weights.

    \b
    python cli.py weights
    python cli.py weights -S 'weights.sources=[file]' -S weights.file=vgg16.safetensors
    """
    from pipeline.stores.weights import obtain_weights

    obtain_weights(project)


@main.command()
@click.option(
    "--layer", "names", multiple=True, help="A layer to make current; repeatable.  [default: extract.layers]"
)
@click.option("--profile", is_flag=True, help="Show where the time went, and how fast this device can be.")
@project_options
def extract(project: "Project", names: tuple[str, ...], profile: bool) -> None:
    """Run the network over images it has not met: artifacts/features/<layer>.zarr.

    \b
    python cli.py extract
    python cli.py extract --layer fc7 --layer conv5_3:avg
    python cli.py extract --profile
    """
    from features.network import parse_layer
    from pipeline.stores.extract import extract

    network = project.settings.weights.network
    extract(project, [parse_layer(name, network) for name in names] or project.layers, profile=profile)


@main.command()
@click.option("--head", "names", multiple=True, help="A head to train; repeatable.  [default: all in heads:]")
@project_options
def train(project: "Project", names: tuple[str, ...]) -> None:
    """Tune heads on the stores: artifacts/heads/<head>.

    \b
    python cli.py train
    python cli.py train --head logreg -S 'heads.logreg.C=[0.1,1,10]'
    """
    from pipeline.tuning.train import train

    for name in names or project.settings.heads.named():
        train(project, name)


@main.command()
@click.option(
    "--mode", "modes", multiple=True, help="A baseline to train; repeatable.  [default: finetune.modes]"
)
@project_options
def finetune(project: "Project", modes: tuple[str, ...]) -> None:
    """Train the network itself on the same split: artifacts/finetune/<mode>.

    Modes are full, freeze:<layer>, dense and scratch.

    \b
    python cli.py finetune
    python cli.py finetune --mode freeze:conv4_3 --mode dense
    python cli.py finetune --mode full -S finetune.epochs=8 -S 'finetune.learning_rate=[1e-3,1e-4]'
    """
    from pipeline.finetuning.finetune import finetune

    finetune(project, modes or project.settings.finetune.modes)


@main.command("sweep-cut")
@click.option(
    "--cut", "cuts", multiple=True, help="A mode of finetune; repeatable.  [default: full, and every layer]"
)
@click.option("--seeds", type=int, default=3, show_default=True, help="Runs of each cut.")
@project_options
def sweep_cut(project: "Project", cuts: tuple[str, ...], seeds: int) -> None:
    """Find where to cut: train the rest above every layer: artifacts/studies/cut.json, cut.svg.

    \b
    python cli.py sweep-cut
    python cli.py sweep-cut --cut full --cut freeze:conv4_1 --cut freeze:conv5_3 --seeds 5
    """
    from pipeline.studies.sweep_cut import sweep_cut

    sweep_cut(project, cuts, seeds=seeds)


@main.command()
@project_options
def compare(project: "Project") -> None:
    """Compare all methods on the test rows: metrics.json, artifacts/predictions.

    \b
    python cli.py compare
    """
    from pipeline.comparison.compare import compare
    from pipeline.comparison.results import results

    compare(project)
    results(project)


@main.command()
@project_options
def report(project: "Project") -> None:
    """Write the page people look at: report/index.html.

    \b
    python cli.py report
    """
    from pipeline.report.report import report

    report(project)
    click.echo(f"report: {project.report}")


@main.command()
@project_options
def results(project: "Project") -> None:
    """Show the last comparison's table again.

    \b
    python cli.py results
    """
    from pipeline.comparison.results import results

    results(project)


@main.command()
@click.argument("images", nargs=-1, required=True)
@click.option("--method", help="A trained method.  [default: the head that validation rows choose]")
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="Classes to show.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Below this probability an image gets no label.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    help="json: one object a line.  [default: table; csv for -]",
)
@click.option(
    "--neighbours",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Nearest train images to show.",
)
@project_options
def predict(project: "Project", images: tuple[str, ...], form: str | None, **options: Any) -> None:
    """Say what is on images: files, folders, patterns, or - for paths from standard input.

    \b
    python cli.py predict photo.jpg
    python cli.py predict photos 'scans/*.png' --method pool5.logreg --top 3 --threshold 0.8
    find . -name '*.jpg' | python cli.py predict - --format json
    """
    from pipeline.predict.predict import predict

    predict(project, images, form=form, **options)


@main.command()
@click.option("--method", help="A trained method.  [default: the head that validation rows choose]")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="A file, or a folder with --head-only.  [default: artifacts/export/<method>.onnx]",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="A folder of images to compare with predict on.  [default: the test images]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Largest difference of a probability from predict's that is accepted.",
)
@click.option(
    "--head-only", is_flag=True, help="Copy the head's arrays and cards alone, without the network."
)
@project_options
def export(
    project: "Project", method: str | None, output: Path | None, head_only: bool, **options: Any
) -> None:
    """Write preprocessing, network and head as one ONNX file; exit 1 where it differs from predict.

    \b
    python cli.py export
    python cli.py export --method fc7.logreg --output classifier.onnx --images photos
    python cli.py export --method pool5.logreg --head-only --output head
    """
    from pipeline.export.export import export, export_head

    if head_only:
        export_head(project, method=method, output=output)
    elif not export(project, method=method, output=output, **options):
        sys.exit(1)


@main.command("layer-map")
@project_options
def layer_map(project: "Project") -> None:
    """Show which layer suits which head: best validation accuracies, artifacts/studies/layer-map.svg.

    \b
    python cli.py layer-map
    """
    from pipeline.studies.layer_map import layer_map

    layer_map(project)


@main.command()
@project_options
def advise(project: "Project") -> None:
    """Say, from cached features and in seconds, which way of using the network suits these images.

    \b
    python cli.py advise
    """
    from pipeline.advice.advise import advise

    advise(project)


@main.command()
@click.option("--head", "heads", multiple=True, help="A head; repeatable.  [default: all in heads:]")
@click.option(
    "--layer", "layers", multiple=True, help="A layer; repeatable.  [default: extract.layers, pixels]"
)
@click.option(
    "--draws",
    type=int,
    default=5,
    show_default=True,
    help="Random orders in which train images are taken, at least 2.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of these orders.")
@project_options
def curve(project: "Project", heads: tuple[str, ...], layers: tuple[str, ...], draws: int, seed: int) -> None:
    """Measure what more train images would buy: artifacts/studies/curve.json, curve.svg.

    \b
    python cli.py curve
    python cli.py curve --head logreg --head knn --layer pool5 --draws 10
    """
    from pipeline.studies.curve import curve

    curve(project, heads, layers, draws=draws, seed=seed)


@main.group()
def cache() -> None:
    """See, shrink and check what all projects share: activations and fine-tuning runs.

    \b
    python cli.py cache info
    python cli.py cache prune --older-than 90
    python cli.py cache verify
    """


@cache.command("info")
@project_options
def cache_info(project: "Project") -> None:
    """Show what the cache holds and how large it is, last used first.

    \b
    python cli.py cache info
    """
    from pipeline.stores.cache import info

    info(project)


@cache.command("prune")
@click.option("--older-than", type=click.IntRange(min=0), metavar="DAYS", help="What was not used for DAYS.")
@click.option("--max-size", metavar="SIZE", help="The least recently used, until all takes at most SIZE.")
@click.option(
    "--unused-by-this-project",
    is_flag=True,
    help="Only what this project has not published; alone: all of that. Others may use it.",
)
@click.option("--yes", is_flag=True, help="Delete. Without it, what would go is listed.")
@project_options
def cache_prune(
    project: "Project", older_than: int | None, max_size: str | None, unused_by_this_project: bool, yes: bool
) -> None:
    """Delete entries of the cache; what is needed again is computed again. Lists only, without --yes.

    \b
    python cli.py cache prune --older-than 90
    python cli.py cache prune --max-size 20GB --yes
    """
    from pipeline.stores.cache import prune

    prune(project, older_than=older_than, max_size=max_size, only_unused=unused_by_this_project, delete=yes)


@cache.command("verify")
@click.option("--repair", is_flag=True, help="Delete what is damaged, so that it is computed again.")
@project_options
def cache_verify(project: "Project", repair: bool) -> None:
    """Check every digest in the cache; exit 1 where something is damaged.

    \b
    python cli.py cache verify
    python cli.py cache verify --repair
    """
    from pipeline.stores.cache import verify

    if not verify(project, mend=repair):
        sys.exit(1)


@main.command()
@click.option("--layer", "names", multiple=True, help="A layer; repeatable.  [default: all published]")
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Random rows of each store that meet the network once more.",
)
@click.option("--repair", is_flag=True, help="Build what is damaged again, and nothing else.")
@project_options
def verify(project: "Project", names: tuple[str, ...], rows: int, repair: bool) -> None:
    """Check every file and row of the stores, and some rows against the network; exit 1 if one is wrong.

    \b
    python cli.py verify
    python cli.py verify --layer fc7 --rows 64 --repair
    """
    from pipeline.stores.verify import verify

    if not verify(project, names, rows=rows, repair=repair):
        sys.exit(1)


@main.command()
@click.option("--layer", "names", multiple=True, help="A layer; repeatable.  [default: all published]")
@project_options
def info(project: "Project", names: tuple[str, ...]) -> None:
    """Describe the stores: what they hold, what made them, a first look at the numbers.

    \b
    python cli.py info
    python cli.py info --layer fc7
    """
    from pipeline.stores.info import info

    info(project, names)


@main.command()
@place_options
def doctor(folder: Path, overrides: tuple[str, ...]) -> None:
    """Check that all is there: versions, device, disk, cache, weights, images, DVC; exit 1 if not.

    Nothing is computed, downloaded or changed.

    \b
    python cli.py doctor
    python cli.py doctor -S dataset.name=folder -S dataset.root=/path/to/images
    """
    from pipeline.checks.doctor import doctor

    if not doctor(folder, overrides):
        sys.exit(1)


@main.command()
@click.option("--strict", is_flag=True, help="An image that has to be set aside is an error.")
@project_options
def run(project: "Project", strict: bool) -> None:
    """Run every stage in order, without DVC; what is current is not run again.

    \b
    python cli.py run
    python cli.py run -S dataset.name=folder -S dataset.root=/path/to/images
    """
    from pipeline.datasets.prepare import prepare
    from pipeline.stores.extract import extract
    from pipeline.stores.weights import obtain_weights
    from pipeline.tuning.train import train

    prepare(project, strict=strict)
    obtain_weights(project)
    extract(project, project.layers)
    for head in project.settings.heads.named():
        train(project, head)

    from pipeline.advice.advise import advise
    from pipeline.comparison.compare import compare
    from pipeline.comparison.results import results
    from pipeline.finetuning.finetune import finetune
    from pipeline.report.report import report

    finetune(project, project.settings.finetune.modes)
    compare(project)
    advise(project)
    report(project)
    results(project)


if __name__ == "__main__":
    main()
