"""How the app looks: a calm theme without web fonts, and what the theme cannot say."""

from __future__ import annotations

from typing import Any

import gradio as gr

_SANS = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> Any:
    """Teal on warm greys; system fonts only, so that the page asks no other server for anything."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.amber,
        neutral_hue=gr.themes.colors.stone,
        font=_SANS,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_md,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_shadow="none",
        block_border_width="1px",
        block_label_background_fill="transparent",
        block_label_border_width="0px",
        block_label_text_weight="600",
        block_title_text_weight="600",
        input_border_width="1px",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_text_color="white",
    )


CSS = """
.gradio-container, .fillable.app { width: 100% !important; max-width: 1480px !important;
  margin: 0 auto !important; }
.masthead h1 { font-size: 1.45rem; font-weight: 650; letter-spacing: -0.01em; margin: 0; }
.masthead p { color: var(--body-text-color-subdued); margin: 0.15rem 0 0; }
.masthead { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; align-items: baseline;
  padding: 0.4rem 0.2rem 0; }
.crisp img, img.crisp { image-rendering: pixelated; }

.status { min-height: 3.2rem; display: flex; flex-wrap: wrap;
  gap: 0.6rem 0.9rem;
  align-items: center;
  padding: 0.55rem 0.8rem; border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-md); background: var(--block-background-fill); }
.status .text { flex: 1 1 11rem; min-width: 0; overflow-wrap: anywhere; }
.status .bar { height: 6px; border-radius: 3px; background: var(--border-color-primary);
  margin-top: 0.45rem; overflow: hidden; }
.status .bar > div { height: 100%; background: var(--color-accent); transition: width 0.25s; }
.status img { width: 84px; height: 84px; object-fit: contain; border-radius: 6px;
  image-rendering: pixelated; }
.status.wrong { border-color: #b91c1c; border-left-width: 4px; }
.status.well { border-left: 4px solid var(--color-accent); }

.verdict { display: flex; flex-wrap: wrap; gap: 0.4rem 0.5rem; align-items: center; }
.verdict + .verdict { margin-top: 0.45rem; }
.verdict .who { width: 4.6rem; color: var(--body-text-color-subdued); }
.chip { padding: 0.1rem 0.6rem; border-radius: 999px; font-size: 0.92em;
  border: 1px solid var(--border-color-primary); background: var(--block-background-fill); }
.chip.yes { border-color: #0f766e; color: #0f766e; background: #0f766e14; }
.chip.no { border-color: #b45309; color: #b45309; background: #b4530914; }
.dark .chip.yes { color: #5eead4; border-color: #2dd4bf88; }
.dark .chip.no { color: #fbbf24; border-color: #fbbf2488; }

table.facts { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  border: 0 !important; }
table.facts th { text-align: left; font-weight: 600; color: var(--body-text-color-subdued); }
table.facts tr, table.facts thead, table.facts tbody { border: 0 !important; }
table.facts th, table.facts td { padding: 0.28rem 0.9rem 0.28rem 0 !important;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; }
.notes { margin: 0.5rem 0 0; padding-left: 1.1rem; color: var(--body-text-color-subdued); }
.quiet { color: var(--body-text-color-subdued); font-size: 0.92em; }

.caption { display: flex; justify-content: space-between; gap: 0.8rem; align-items: baseline;
  padding: 0 0.2rem; }
.tight, .tight .html-container { padding: 0 !important; }
.tight { margin-bottom: -0.3rem; }
.examples { flex-wrap: wrap !important; gap: 0.45rem !important; align-items: center; }
.examples > * { flex: 0 0 auto !important; min-width: 0 !important; width: auto !important; }
.examples button { border-radius: 999px; font-weight: 500; padding: 0.25rem 0.85rem;
  background: var(--block-background-fill); border: 1px solid var(--border-color-primary); }
.examples button:hover { border-color: var(--color-accent); }
.beside { align-self: flex-end; max-height: 2.9rem; }
.label-wrap > span:first-child { text-align: left; }
.run { position: sticky; bottom: 0; z-index: 20; padding: 0.5rem 0;
  background: linear-gradient(to top, var(--body-background-fill) 75%, transparent); }
.method { border-left: 3px solid var(--color-accent) !important; }

.strip .grid-wrap { height: auto !important; min-height: 0 !important; max-height: 30rem; }
.strip .grid-container { height: auto !important; min-width: 0 !important;
  grid-template-columns: repeat(auto-fill, minmax(min(7.5rem, 45%), 1fr)) !important; }

/* A layer's place in the list is its phrase: the arrows that move it away are hidden. */
#paint-canvas li > div { display: none; }

.scale { display: flex; gap: 0.6rem; align-items: center; padding: 0.1rem 0.2rem; }
.scale .ramp { height: 10px; width: 12rem; border-radius: 5px; background: linear-gradient(
  to right, #0d0823, #50125a, #a82c50, #e66430, #fbb03c, #fcfac8); }

.words .token { cursor: pointer; }
.dark .words .token.highlighted { color: #fff !important; }
button:focus-visible, [tabindex]:focus-visible, input:focus-visible, textarea:focus-visible {
  outline: 3px solid var(--color-accent) !important; outline-offset: 2px; }
@media (max-width: 640px) {
  .gradio-container { padding: 0.4rem !important; }
  .status img { width: 64px; height: 64px; }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
"""
