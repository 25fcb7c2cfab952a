"""`adhere app`: the options of an operator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adhere.errors import ParameterError

app_app = typer.Typer(add_completion=False)

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="A model visitors may choose: toybox, a folder, a hub id, or name=one of these; may "
        "be repeated, the first is the default.",
    ),
]
Auth = Annotated[
    list[str] | None,
    typer.Option(help="`user:password`; may be repeated. Everybody on this machine can read it."),
]
AuthFile = Annotated[
    Path | None, typer.Option("--auth-file", help="A file with `user:password` a line.")
]
LimitOptions = Annotated[
    list[str] | None,
    typer.Option("--limit", help="`name=number`, such as passes=2000; may be repeated."),
]
Verifiers = Annotated[
    list[str] | None,
    typer.Option(
        help="What may judge the autopilot's pictures, beside what the toybox brings: "
        "`clip-score(model=ID)`, weights and minima; may be repeated, the first is the default."
    ),
]


@app_app.command()
def serve(
    model: Models = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port.")] = 7860,
    auth: Auth = None,
    auth_file: AuthFile = None,
    ssl_certificate: Annotated[str | None, typer.Option(help="PEM file, for https.")] = None,
    ssl_key: Annotated[str | None, typer.Option(help="PEM file, for https.")] = None,
    root_path: Annotated[
        str | None, typer.Option(help="The path under which a proxy shows the app.")
    ] = None,
    limit: LimitOptions = None,
    verifier: Verifiers = None,
    gallery: Annotated[
        Path | None,
        typer.Option(help="A folder that keeps visitors' pictures for longer than the app runs."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, cpu, mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="Also serve MCP clients, at /mcp/.")] = False,
) -> None:
    """Open the web app.

    On this machine; then two models to choose between, for others too:

        adhere app

        adhere app -m toybox -m big=owner/name --host 0.0.0.0 --auth-file passwords
    """
    from adhere.app.jobs.limits import with_options
    from adhere.app.serving import server

    pairs = [_pair(one) for one in auth or []]
    pairs += server.read_passwords(auth_file) if auth_file else ()
    address = server.Address(host, port, tuple(pairs), ssl_certificate, ssl_key, root_path)
    options: dict[str, Any] = {"device": device, "dtype": dtype, "mcp": mcp, "say": typer.echo}
    options |= {"limits": with_options(limit or [], verifier or []), "gallery": gallery}
    server.serve(model or ["toybox"], address, **options)


def _pair(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ParameterError(f"--auth {user or text[:20]!r} is not user:password")
    return user, password
