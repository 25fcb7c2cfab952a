// The layout editor: what belongs where in a picture, and what each region says of itself; with undo.
// Its value is a layout as adhere.layout reads it, in which a region may have no place yet.
// `phrases`, `prompt`, `picture` and `cells` come from the server; what a person drew or wrote never
// does, except when a whole layout is put in (an example, a link, a file).
// A mask is kept as it came until somebody paints: `cover` is what of it the canvas can show.
const OWN = {text: "", negative: "", strength: 1, feather: 0, start: 0, stop: 1, lora: ""};
const COLOURS = ["#0f766e", "#d97706", "#7c3aed", "#e11d48", "#2563eb", "#65a30d", "#0891b2",
  "#a16207", "#be185d", "#4338ca", "#15803d", "#b45309"];
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const canvas = find("canvas"), list = find("list"), pen = canvas.getContext("2d");
const sides = ["left", "top", "right", "bottom"].map(find);
const NOWHERE = {box: null, polygon: null, mask: null, cover: null};
let regions = [], whole = {}, chosen = 0, tool = "box", brush = 5, past = [], future = [];
let cells = [64, 64], picture = null, drag = null, sent = "", edges = "";

// ---- A region

const fresh = (words) => ({...words, ...NOWHERE, own: words.own || {}});
const label = (region) => region.phrase || region.own.text || "";
const placed = (region) => Boolean(region.box || region.polygon || region.cover);
const own = (region, name) => name in region.own ? region.own[name] : OWN[name];
const put = (region, place) => Object.assign(region, NOWHERE, place);

function say(region, name, value) {
  if (value === OWN[name]) delete region.own[name]; else region.own[name] = value;
}

const UNSPACED = ["Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"]
  .map((script) => `\\p{Script=${script}}`).join("");
const JOINED = `(?![${UNSPACED}])[\\p{L}\\p{M}\\p{N}_]`;

function times(phrase) {
  // As the server finds a phrase: whole words, whatever their case and spacing.
  const words = phrase.trim().split(/\s+/).map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  const found = new RegExp(`(?<!${JOINED})${words.join("\\s+")}(?!${JOINED})`, "giu");
  return [...props.prompt.matchAll(found)].length;
}

function known(region) {
  const [, words, which] = region.phrase.match(/^(.*\S)\s*#\s*(\d+)$/s) || [null, region.phrase, 1];
  return !props.prompt || times(region.phrase) > 0
    || Math.max(times(words), times(bare(words))) >= Number(which);
}

const used = (region) => known(region) || Boolean(region.own.text);

// ---- Masks: a byte for each cell, row by row

const blank = () => new Uint8Array(cells[0] * cells[1]);

function unpack(mask) {
  const [h, w] = mask.size, from = new Uint8Array(h * w), levels = mask.levels || [];
  let start = 0;
  mask.runs.forEach((run, k) => {
    from.fill(levels.length ? Number(levels[k] > 7) : k % 2, start, start + run);
    start += run;
  });
  if (h === cells[1] && w === cells[0]) return from;
  const to = blank();
  for (let y = 0; y < cells[1]; y++) for (let x = 0; x < cells[0]; x++)
    to[y * cells[0] + x] =
      from[Math.floor((y + 0.5) * h / cells[1]) * w + Math.floor((x + 0.5) * w / cells[0])];
  return to;
}

function pack(cover) {
  const runs = [];
  let on = 0, length = 0;
  for (const cell of cover) {
    if (cell === on) length++; else { runs.push(length); on = cell; length = 1; }
  }
  runs.push(length);
  return {size: [cells[1], cells[0]], runs};
}

// ---- The value, and its past

function placeOf(region) {
  if (region.box) return {box: region.box};
  if (region.polygon) return {polygon: region.polygon};
  return region.cover ? {mask: region.mask || pack(region.cover)} : {};
}

function plain() {
  return {regions: regions.map((r) => ({phrase: r.phrase, ...placeOf(r), ...r.own})), ...whole};
}

function take(value) {
  const given = JSON.parse(JSON.stringify(value || {}));
  const name = regions[chosen] && label(regions[chosen]);
  regions = (given.regions || []).map((one) => {
    const region = fresh({phrase: one.phrase || ""});
    for (const name in OWN) if (one[name] != null) say(region, name, one[name]);
    const {box = null, polygon = null, mask = null} = one;
    return put(region, {box, polygon, mask, cover: mask && unpack(mask)});
  });
  whole = {};
  for (const name of ["base", "overlap"]) if (given[name] != null) whole[name] = given[name];
  const same = regions.findIndex((r) => label(r) === name);
  chosen = same >= 0 ? same : Math.min(chosen, Math.max(0, regions.length - 1));
}

function tell() {
  sent = JSON.stringify(plain());
  props.value = JSON.parse(sent);
  trigger("change");
  draw();
}

function remember() {
  past.push(JSON.stringify(plain()));
  if (past.length > 60) past.shift();
  future = [];
}

function change(how) { remember(); how(); tell(); }

function travel(from, to) {
  if (!from.length) return;
  to.push(JSON.stringify(plain()));
  take(JSON.parse(from.pop()));
  tell();
}

function choose(k) { chosen = k; edges = ""; draw(); }

// ---- What the server says

const bare = (words) => words.trim().toLowerCase().replace(/^(an?|the)\s+/, "");

function merge(phrases) {
  // Kept by phrase, in their order (the later is in front): what has a place, or says something of
  // itself, stays whatever the prompt says now. A text of its own that is now a phrase is that.
  const asked = new Map(phrases.map((phrase) => [bare(phrase), phrase]));
  const next = regions
    .filter((r) => asked.has(bare(label(r))) || placed(r) || Object.keys(r.own).length)
    .map((r) => ({...r, phrase: r.phrase || asked.get(bare(label(r))) || ""}));
  const there = new Set(next.map((r) => bare(label(r))));
  next.push(...phrases.filter((p) => !there.has(bare(p))).map((phrase) => fresh({phrase})));
  const names = (some) => JSON.stringify(some.map((r) => [r.phrase, label(r)]));
  if (names(next) === names(regions)) return draw();
  const name = regions[chosen] && label(regions[chosen]);
  remember();
  regions = next;
  // Who has written another prompt goes on with what it says.
  const same = regions.findIndex((r) => label(r) === name && used(r));
  chosen = Math.max(0, same >= 0 ? same : regions.findIndex((r) => used(r) && !placed(r)));
  tell();
}

function resize(to) {
  if (!to || (to[0] === cells[0] && to[1] === cells[1])) return;
  const kept = plain();
  cells = to;
  take(kept);
  // A mask of another shape than the picture would be refused: from now on it is as it is shown.
  for (const region of regions)
    if (region.mask && !fits(region.mask.size)) region.mask = null;
  if (JSON.stringify(plain()) !== sent) tell();
}

const fits = ([h, w]) => Math.abs(Math.log(h * cells[0] / (w * cells[1]))) < 0.03;

function show(address) {
  if (!address) { picture = null; return draw(); }
  const image = new Image();
  image.onload = () => { picture = image; draw(); };
  image.src = address;
}
