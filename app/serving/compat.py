"""Every private part of Gradio that the app uses, each with what to use when it goes.

`tests/app/test_compat.py` says when one of them is gone.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

MOST_NESTING = 32

WITHOUT_PROBE: dict[str, Any] = {"_frontend": False}
"""For `Blocks.launch`: after the start it asks its own page once more, and a machine too busy to
answer in three seconds gets an error about shareable links. That the server listens was asked
before, without a clock. When the switch goes: catch that `ValueError` and ask again.
"""


class GuardedPage(gr.Blocks):
    """`gr.Blocks` without its habit of downloading what an input names by address.

    Gradio lets any input value be `{"path": "https://..."}` and fetches it for the visitor. Here
    files arrive by upload only, so that no request leaves the machine.
    """

    # Private: `Blocks.preprocess_data`, where Gradio turns what a page sent into values. When it
    # goes: a middleware of the server that reads the body of `/gradio_api/queue/join`.
    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> Any:
        if names_address(inputs):
            raise gr.Error(
                "Files are taken by upload only, not by address: upload the file itself.",
                print_exception=False,
            )
        return await super().preprocess_data(block_fn, inputs, state, explicit_call)


def names_address(value: object, depth: int = 0) -> bool:
    """Whether a value holds a file that is named by an address instead of an uploaded path."""
    if depth > MOST_NESTING:
        return True
    if isinstance(value, dict):
        path = value.get("path")
        # What a page gets from the app comes back with its `url`; only `path` is ever fetched.
        if "meta" in value and isinstance(path, str) and "://" in path:
            return True
        return any(names_address(item, depth + 1) for item in value.values())
    if isinstance(value, list):
        return any(names_address(item, depth + 1) for item in value)
    return False
