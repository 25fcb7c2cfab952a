"""`adhere eval`: plan, generate, score, report; run does all four; ls and validate look."""

from __future__ import annotations

import typer

from adhere.eval.commands import looking, running

eval_app = typer.Typer(
    no_args_is_help=True,
    help="Make pictures of prompts x plugins x seeds, score them, and report paired differences.",
    rich_markup_mode="markdown",
    add_completion=False,  # that is `adhere --install-completion`
)

for command in (
    running.plan,
    running.grow,
    running.generate,
    running.score,
    running.report,
    running.export,
    running.run,
):
    eval_app.command()(command)
eval_app.command("import")(running.import_pictures)
eval_app.command("ls")(looking.list_all)
eval_app.command()(looking.validate)
eval_app.command()(looking.compare)
eval_app.command()(looking.check)
eval_app.command()(looking.leaderboard)
