"""The toybox's CLIP tokenizer: one token a word it was taught, letters for every other word.

It is an ordinary fast CLIP tokenizer with a small merge table, so code written for Stable
Diffusion's runs on it.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken
from transformers import CLIPTokenizerFast

from adhere.pipelines.toybox.world.captions import vocabulary

MOST_TOKENS = 32
START, END = "<|startoftext|>", "<|endoftext|>"
_SYMBOLS = "abcdefghijklmnopqrstuvwxyz0123456789,.'-!?:;()\""


def _tables() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges: byte-pair encoding run until every known word is one token."""
    pieces: dict[str, None] = dict.fromkeys([*_SYMBOLS, *(f"{s}</w>" for s in _SYMBOLS)])
    words = [[*word[:-1], f"{word[-1]}</w>"] for word in vocabulary()]
    merges: list[tuple[str, str]] = []
    while any(len(word) > 1 for word in words):
        counts = Counter(pair for word in words for pair in pairwise(word))
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        pieces["".join(best)] = None
        words = [_merged(word, best) for word in words]
    tokens = [*pieces, START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out


def build_tokenizer() -> CLIPTokenizerFast:
    """Makes the tokenizer from the captions' vocabulary; the same every time."""
    vocab, merges = _tables()
    return CLIPTokenizerFast(
        vocab=vocab,
        merges=merges,
        bos_token=AddedToken(START, special=True),
        eos_token=AddedToken(END, special=True),
        unk_token=END,
        pad_token=END,
        model_max_length=MOST_TOKENS,
    )


def save_tokenizer(folder: Path) -> None:
    """Writes the tokenizer's files into a folder."""
    build_tokenizer().save_pretrained(str(folder))
