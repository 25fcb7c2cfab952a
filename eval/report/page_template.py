"""The page of a report; the parts between `@@` are filled in by `page`."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data: file: 'self';
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>@@title@@</title>
<style>
:root { color-scheme: light dark;
 --ink: light-dark(#1d2330, #e6e9f0); --soft: light-dark(#667, #9aa3b5);
 --line: light-dark(#d8dce6, #343b4c); --ground: light-dark(#fff, #14171f);
 --card: light-dark(#f6f7fb, #1c212c); --good: light-dark(#0a7a4b, #4fd39a);
 --bad: light-dark(#b3372b, #ff8f80); }
body { margin: 2rem auto; padding: 0 1rem; max-width: 78rem; color: var(--ink);
 background: var(--ground); font: 15px/1.5 system-ui, sans-serif; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
 white-space: nowrap; vertical-align: top; }
small { color: var(--soft); }
td.better small:last-child { color: var(--good); font-weight: 600; }
td.worse small:last-child { color: var(--bad); font-weight: 600; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 1rem; }
figure { margin: 0; } figcaption { color: var(--soft); }
svg { max-width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
svg line { stroke: var(--soft); stroke-width: 2; } svg line.zero { stroke: var(--line); }
svg circle { fill: var(--soft); }
svg .better { stroke: var(--good); } svg circle.better { fill: var(--good); }
svg .worse { stroke: var(--bad); } svg circle.worse { fill: var(--bad); }
.notes { color: var(--bad); }
form { display: flex; flex-wrap: wrap; gap: .8rem; align-items: end; margin: 1rem 0; }
label { display: grid; gap: .2rem; color: var(--soft); font-size: .85rem; }
input, select, button { font: inherit; color: inherit; background: var(--card);
 border: 1px solid var(--line); border-radius: .4rem; padding: .35rem .6rem; }
#grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
 padding: .7rem; }
article h3 { margin: 0 0 .4rem; font-size: .95rem; overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; }
.two img { width: 100%; image-rendering: pixelated; border-radius: .3rem; background: var(--line); }
.two span { color: var(--soft); font-size: .8rem; }
.better > .outcome { color: var(--good); } .worse > .outcome { color: var(--bad); }
.outcome { font-size: .85rem; margin: .4rem 0 0; }
</style>
</head>
<body data-baseline="@@baseline@@">
<h1>@@title@@</h1>
<dl>@@head@@</dl>
<p>@@how@@</p>
<ul class="notes">@@notes@@</ul>
@@tables@@
<section>
<h2>Before and after</h2>
<form id="filters">
<label>prompt<input id="prompt" type="search" placeholder="words of the prompt"></label>
<label>variant<select id="variant"><option value="">all</option></select></label>
<label>suite<select id="suite"><option value="">all</option></select></label>
<label>judged by<select id="column"></select></label>
<label>outcome<select id="outcome"><option value="">all</option><option>better</option>
<option>worse</option><option>same</option></select></label>
</form>
<p id="count" role="status"></p>
<div id="grid"></div>
<p><button id="more" type="button" hidden>show more</button></p>
</section>
<script id="data" type="application/json">@@data@@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const field = name => document.getElementById(name);
const STEP = 48;
let most = STEP;
function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}
function fill(name, values) {
  for (const value of [...new Set(values)]) element("option", value, field(name)).value = value;
}
const pairs = data.pairs, texts = pairs.texts, count = pairs.seed.length;
function pair_of(number) {
  const scores = [0, 1].map(side => Object.fromEntries(Object.keys(pairs.scores).map(
    name => [name, pairs.scores[name][side][number] ?? undefined])));
  return { prompt: texts[pairs.prompt[number]], variant: texts[pairs.variant[number]],
    seed: pairs.seed[number], before: pairs.before[number], after: pairs.after[number], scores };
}
fill("variant", [...new Set(pairs.variant)].map(number => texts[number]));
fill("suite", [...new Set(pairs.suite)].map(number => texts[number]));
const compared = Object.keys(data.columns).filter(name =>
  data.columns[name].better !== "neither" && pairs.scores[name]?.[1].some(one => one !== null));
fill("column", compared);
for (const wanted of ["fully_right", "all_present", "clip_full"])
  if (compared.includes(wanted)) { field("column").value = wanted; break; }
function shown(value, column) {
  if (value === undefined) return "–";
  if (data.columns[column].kind === "share") return (100 * value).toFixed(0) + " %";
  return value.toPrecision(3);
}
function outcome(number, column) {
  const [before, after] = pairs.scores[column].map(side => side[number]);
  if (before === null || after === null) return "";
  if (before === after) return "same";
  return (after > before) === (data.columns[column].better === "higher") ? "better" : "worse";
}
function address(job) {
  return data.images[job] || `images/${job.slice(0, 3)}/${job}.png`;
}
function side(parent, job, title, prompt) {
  const cell = element("div", undefined, parent);
  const image = element("img", undefined, cell);
  image.loading = "lazy";
  image.src = address(job);
  image.alt = title + ": " + prompt;
  element("span", title, cell);
}
function card(number, column) {
  const pair = pair_of(number);
  const made = element("article");
  element("h3", pair.prompt, made);
  const two = element("div", undefined, made);
  two.className = "two";
  side(two, pair.before, document.body.dataset.baseline, pair.prompt);
  if (pair.after !== pair.before) side(two, pair.after, pair.variant, pair.prompt);
  if (column) {
    made.className = outcome(number, column);
    const line = element("p", undefined, made);
    line.className = "outcome";
    line.textContent = column + " " + shown(pair.scores[0][column], column) + " → " +
      shown(pair.scores[1][column], column) + ", seed " + pair.seed;
  }
  return made;
}
function show() {
  const words = field("prompt").value.toLowerCase().split(/\\s+/).filter(Boolean);
  const column = field("column").value;
  const wanted = field("outcome").value;
  const variant = texts.indexOf(field("variant").value);
  const suite = texts.indexOf(field("suite").value);
  const named = texts.map(text => words.every(word => text.toLowerCase().includes(word)));
  const chosen = [];
  for (let number = 0; number < count; number++)
    if (named[pairs.prompt[number]] && (variant < 0 || pairs.variant[number] === variant) &&
        (suite < 0 || pairs.suite[number] === suite) &&
        (!wanted || (column && outcome(number, column) === wanted))) chosen.push(number);
  field("grid").replaceChildren(...chosen.slice(0, most).map(number => card(number, column)));
  field("count").textContent = chosen.length + " of " + count + " pairs";
  field("more").hidden = chosen.length <= most;
}
field("filters").addEventListener("input", () => { most = STEP; show(); });
field("filters").addEventListener("submit", event => event.preventDefault());
field("more").addEventListener("click", () => { most += STEP; show(); });
show();
</script>
</body>
</html>
"""
