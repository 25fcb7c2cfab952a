"""Columns that several evaluators give; one place, so that a report says the same of each."""

from __future__ import annotations

from adhere.eval.evaluators.evaluator import Column

COMPOSITION = (
    Column("present", "share of the asked things that are there", kind="share"),
    Column("all_present", "pictures with every asked thing", kind="share"),
    Column("binding", "share of coloured things in the asked colour", kind="share"),
    Column("relation", "pictures with the asked relation", kind="share"),
    Column("not_too_many", "pictures without too many of what is excluded", kind="share"),
    Column("fully_right", "pictures with every thing, colour and relation", kind="share"),
)
FAILURES = (
    Column("neglected", "pictures that leave a thing out", "lower", "share"),
    Column("swapped", "pictures with colours on the wrong thing", "lower", "share"),
)
MIOU = Column("miou", "mean over regions of intersection over union with the layout", kind="share")
UNSAFE = Column("unsafe", "pictures that show what is not wanted", "lower", "share")
