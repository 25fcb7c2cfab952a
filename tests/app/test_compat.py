"""Canaries: the private parts of Gradio that the app uses are still there, as it uses them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import gradio as gr

import adhere.app
from adhere.app.serving import compat


def test_inputs_still_come_through_preprocess_data() -> None:
    theirs = inspect.signature(gr.Blocks.preprocess_data)
    ours = inspect.signature(compat.GuardedPage.preprocess_data)
    assert list(theirs.parameters) == list(ours.parameters)
    assert inspect.iscoroutinefunction(gr.Blocks.preprocess_data)


def test_the_start_can_still_be_told_not_to_probe() -> None:
    assert "_frontend" in inspect.signature(gr.Blocks.launch).parameters


def test_private_parts_are_behind_one_door() -> None:
    """No other file imports from inside Gradio, or uses a name of it that begins with `_`."""
    folder = Path(str(adhere.app.__file__)).parent
    for path in folder.rglob("*.py"):
        if path.name == "compat.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("gradio"), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                private = node.attr.startswith("_") or node.attr in ("processing_utils", "utils")
                assert not (node.value.id == "gr" and private), (path, node.attr)


def test_addresses_are_seen_at_any_depth() -> None:
    stolen = {"path": "http://169.254.169.254/", "meta": {"_type": "gradio.FileData"}}
    assert compat.names_address([{"deep": [stolen]}])
    assert not compat.names_address([{"path": "/tmp/x.png", "meta": {}}, "http://a text"])
