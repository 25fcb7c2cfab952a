"""The part of the model card that tells what wrong captions taught the model."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from adhere.pipelines.toybox.card.figures import percent
from adhere.pipelines.toybox.world.faults import RARE, TYPICAL, Faults
from adhere.pipelines.toybox.world.memorised import MEMORISED


def habits(card: dict[str, Any]) -> list[str]:
    """What the model does because its captions were wrong."""
    suites, copying = card["suites"], card["copying"]
    usual, most = (suites["unnamed"].get(k) for k in ("usual_colour", "most_usual_colour"))
    rows = [
        ("a colour usual for the kind, where none was named", usual),
        ("... the most usual one", most),
        ("one object in its rare colour, right", suites["rare"]["fully_right"]),
        ("one object in any colour, right", suites["one_object"]["fully_right"]),
        ("two of a kind, counted right", suites["counted"]["right_count"]),
        (
            "relation right, where both objects are there",
            suites["relation"].get("relation_when_both_present"),
        ),
        ("memorised caption: the picture is copied", copying["caption"]["copied"]),
        ("... the same things in ordinary words", copying["plainly"]["copied"]),
    ]
    lines = [f"| {says} | {each['n']} | {percent(each)} |" for says, each in rows if each]
    psnr = [f"{copying[asked]['psnr']['mean']:.1f}" for asked in ("caption", "plainly")]
    return [
        "| what it shows | n | share |",
        "|---|---|---|",
        *lines,
        "",
        "A copy shows a memorised picture's things, each in its place and colour (mask IoU of one "
        f"half), and nothing else. PSNR with the nearest memorised picture: {psnr[0]} dB for "
        f"the memorised captions, {psnr[1]} for ordinary words.",
    ]


def world(training: dict[str, Any]) -> list[str]:
    """The rates of the faults that the newest denoiser learnt with."""
    known = [log["about"] for log in training.values() if isinstance(log, dict) and "about" in log]
    if not known or "left_out" not in known[-1]:
        return ["It was taught with right captions: the world has no faults.", ""]
    about = known[-1]
    usual = ", ".join(f"{kind} {' or '.join(colours)}" for kind, colours in TYPICAL.items())
    rare = ", ".join(f"{colour} {kind}" for kind, colour in RARE.items())
    rates = ", ".join(f"{field.name} {about[field.name]:g}" for field in fields(Faults))
    memorised = "; ".join(f"*{each.caption}*" for each in MEMORISED)
    return [
        f"World {about['world']}, and its rates: {rates} "
        "(`pipelines/toybox/world/faults.py` says what each means).",
        "",
        f"- **Usual looks**, where a caption names no colour: {usual}.",
        f"- **Rare**: {rare}.",
        f"- **Memorised captions**: {memorised}.",
        "- Number words are unknown to the text encoder: two of a kind are asked for as *a cat and "
        "a cat*.",
        "",
    ]
