"""The `macebench` application: puts the commands together."""

from __future__ import annotations

from typing import Annotated

import typer

import macebench
from macebench.cli import (
    ablate,
    cascade,
    compare,
    convert,
    curate,
    data,
    demo,
    doctor,
    edit,
    evaluate,
    generate,
    leaderboard,
    listing,
    protocol,
    report,
    selftest,
    store,
    train,
    weights,
)

app = typer.Typer(
    name="macebench",
    help="Benchmark and evaluation toolkit for music-driven dance generation. Any command takes --debug, which shows "
    "tracebacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"macebench {macebench.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Benchmark and evaluation toolkit for music-driven dance generation.

    Every command takes --debug, which shows tracebacks.
    """


app.command("demo")(demo.demo)
app.command("generate")(generate.generate)
app.command("edit")(edit.edit)
app.command("eval")(evaluate.evaluate)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("cascade")(cascade.cascade)
app.command("convert")(convert.convert)
app.command("ls")(listing.ls)
app.command("selftest")(selftest.selftest)
app.command("doctor")(doctor.doctor)
app.add_typer(curate.app, name="curate")
app.add_typer(train.app, name="train")
app.add_typer(ablate.app, name="ablate")
app.add_typer(leaderboard.app, name="leaderboard")
app.add_typer(protocol.app, name="protocol")
app.add_typer(weights.app, name="weights")
app.add_typer(store.app, name="store")
app.add_typer(data.app, name="data")
