"""Columns that several evaluators give; one place, so that a report says the same of each."""

from __future__ import annotations

from adhere.eval.evaluators.evaluator import Measure

COMPOSITION = (
    Measure("present", "share of the asked things that are there", kind="share"),
    Measure("all_present", "pictures with every asked thing", kind="share"),
    Measure("binding", "share of coloured things in the asked colour", kind="share"),
    Measure("relation", "pictures with the asked relation", kind="share"),
    Measure("not_too_many", "pictures without too many of what is excluded", kind="share"),
    Measure("fully_right", "pictures with every thing, colour and relation", kind="share"),
)
FAILURES = (
    Measure("neglected", "pictures that leave a thing out", "lower", "share"),
    Measure("swapped", "pictures with colours on the wrong thing", "lower", "share"),
)
MIOU = Measure("miou", "mean over regions of intersection over union with the layout", kind="share")
UNSAFE = Measure("unsafe", "pictures that show what is not wanted", "lower", "share")
