// The layout editor: regions of a picture by phrase, painted or drawn as boxes, with undo.
// Its value is {regions: [{phrase, box, mask}]}: `box` is [left, top, right, bottom] in shares,
// `mask` is {size: [height, width], runs: [zeros, ones, ...]}, as adhere.layout reads both.
// `phrases`, `prompt`, `picture` and `cells` come from the server; what a person drew never does,
// except when a whole layout is put in (an example, a link, a file).
const COLOURS = ["#0f766e", "#d97706", "#7c3aed", "#e11d48", "#2563eb", "#65a30d", "#0891b2",
  "#a16207", "#be185d", "#4338ca", "#15803d", "#b45309"];
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const canvas = find("canvas"), list = find("list"), pen = canvas.getContext("2d");
const sides = ["left", "top", "right", "bottom"].map(find);
let regions = [], chosen = 0, tool = "box", brush = 5, past = [], future = [];
let cells = [64, 64], picture = null, drag = null, sent = "";

// ---- Masks: a byte for each cell, row by row

const size = () => cells[0] * cells[1];
const blank = () => new Uint8Array(size());

function unpack(mask) {
  const [h, w] = mask.size, from = new Uint8Array(h * w);
  let place = 0, on = 0;
  for (const run of mask.runs) { from.fill(on, place, place + run); place += run; on = 1 - on; }
  if (h === cells[1] && w === cells[0]) return from;
  const to = blank();
  for (let y = 0; y < cells[1]; y++) for (let x = 0; x < cells[0]; x++)
    to[y * cells[0] + x] =
      from[Math.floor((y + 0.5) * h / cells[1]) * w + Math.floor((x + 0.5) * w / cells[0])];
  return to;
}

function pack(mask) {
  const runs = [];
  let on = 0, length = 0;
  for (const cell of mask) {
    if (cell === on) length++; else { runs.push(length); on = cell; length = 1; }
  }
  runs.push(length);
  return {size: [cells[1], cells[0]], runs};
}

// ---- The value, and its past

function plain() {
  return {regions: regions.map((r) =>
    ({phrase: r.phrase, box: r.box, mask: r.mask ? pack(r.mask) : null}))};
}

function take(value) {
  regions = ((value || {}).regions || []).map((r) => ({
    phrase: r.phrase, box: r.box || null, mask: r.mask ? unpack(r.mask) : null}));
  chosen = Math.min(chosen, Math.max(0, regions.length - 1));
}

function tell() {
  sent = JSON.stringify(plain());
  props.value = plain();
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

// ---- What the server says

const bare = (phrase) => phrase.trim().toLowerCase().replace(/^(an?|the)\s+/, "");

function known(phrase) {
  const words = phrase.replace(/#\d+$/, "").toLowerCase();
  return !props.prompt || props.prompt.toLowerCase().includes(words);
}

function merge(phrases) {
  // Kept by phrase: what has a place stays, whatever the prompt says now.
  const old = new Map(regions.map((r) => [bare(r.phrase), r]));
  const asked = new Set(phrases.map(bare));
  const held = regions.filter((r) => !asked.has(bare(r.phrase)) && (r.box || r.mask));
  const next = [...phrases.map((p) => old.get(bare(p)) || {phrase: p, box: null, mask: null}),
    ...held];
  if (JSON.stringify(next.map((r) => r.phrase)) === JSON.stringify(regions.map((r) => r.phrase)))
    return draw();
  const name = (regions[chosen] || {}).phrase;
  remember();
  regions = next;
  chosen = Math.max(0, regions.findIndex((r) => r.phrase === name));
  tell();
}

function resize(to) {
  if (!to || (to[0] === cells[0] && to[1] === cells[1])) return;
  const kept = plain();
  cells = to;
  take(kept);
  tell();
}

function show(address) {
  if (!address) { picture = null; return draw(); }
  const image = new Image();
  image.onload = () => { picture = image; draw(); };
  image.src = address;
}

// ---- Drawing

function draw() {
  const wide = 512, scale = wide / Math.max(...cells);
  canvas.width = Math.round(cells[0] * scale);
  canvas.height = Math.round(cells[1] * scale);
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (picture && find("under").checked) {
    pen.imageSmoothingEnabled = picture.width > 200;
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  }
  regions.forEach((region, k) => paintRegion(region, k, scale));
  if (regions[chosen] && regions[chosen].box) drawHandles(regions[chosen].box);
  drawList();
  showNumbers();
}

function paintRegion(region, k, scale) {
  const colour = COLOURS[k % COLOURS.length], dim = known(region.phrase) ? "" : "55";
  pen.fillStyle = colour + (k === chosen ? "8c" : "59");
  if (region.mask) {
    for (let y = 0; y < cells[1]; y++) for (let x = 0; x < cells[0]; x++)
      if (region.mask[y * cells[0] + x])
        pen.fillRect(x * scale, y * scale, scale + 0.5, scale + 0.5);
  }
  if (!region.box) return;
  const [l, t, r, b] = pixels(region.box);
  if (!region.mask) pen.fillRect(l, t, r - l, b - t);
  pen.strokeStyle = colour + dim;
  pen.lineWidth = k === chosen ? 4 : 2;
  pen.strokeRect(l, t, r - l, b - t);
  pen.font = "600 17px sans-serif";
  const width = pen.measureText(region.phrase).width + 12;
  pen.fillStyle = colour;
  pen.fillRect(l, Math.max(0, t - 24), width, 24);
  pen.fillStyle = "#ffffff";
  pen.fillText(region.phrase, l + 6, Math.max(0, t - 24) + 17);
}

const pixels = (box) => box.map((edge, k) => edge * (k % 2 ? canvas.height : canvas.width));

function corners(box) {
  const [l, t, r, b] = pixels(box), x = (l + r) / 2, y = (t + b) / 2;
  return [["lt", l, t], ["t", x, t], ["rt", r, t], ["r", r, y], ["rb", r, b], ["b", x, b],
    ["lb", l, b], ["l", l, y]];
}

function drawHandles(box) {
  for (const [, x, y] of corners(box)) {
    pen.fillStyle = "#ffffff";
    pen.strokeStyle = "#1c1917";
    pen.lineWidth = 2;
    pen.fillRect(x - 6, y - 6, 12, 12);
    pen.strokeRect(x - 6, y - 6, 12, 12);
  }
}

function drawList() {
  const focused = list.contains(document.activeElement)
    ? document.activeElement.dataset.key : null;
  list.replaceChildren(...regions.map((region, k) => row(region, k)));
  if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  find("undo").disabled = !past.length;
  find("redo").disabled = !future.length;
  find("clear").disabled = !regions[chosen];
  for (const name of ["box", "brush", "eraser"])
    find(name).setAttribute("aria-pressed", String(tool === name));
}

function row(region, k) {
  const item = document.createElement("li"), pick = document.createElement("button");
  const chip = document.createElement("span"), state = document.createElement("span");
  const drop = document.createElement("button");
  item.className = k === chosen ? "region chosen" : "region";
  chip.className = "colour";
  chip.style.background = COLOURS[k % COLOURS.length];
  state.className = "state";
  state.textContent = !known(region.phrase) ? "not in the prompt, not used"
    : region.mask ? "painted" : region.box ? "box" : "no place yet";
  pick.type = drop.type = "button";
  pick.className = "pick";
  pick.dataset.key = `pick ${region.phrase}`;
  pick.setAttribute("aria-pressed", String(k === chosen));
  pick.append(chip, document.createTextNode(region.phrase), state);
  pick.onclick = () => { chosen = k; draw(); };
  drop.className = "drop";
  drop.dataset.key = `drop ${region.phrase}`;
  drop.textContent = "×";
  drop.setAttribute("aria-label", `Remove ${region.phrase}`);
  drop.onclick = () => change(() => {
    regions.splice(k, 1);
    chosen = Math.min(chosen, Math.max(0, regions.length - 1));
  });
  item.append(pick, drop);
  return item;
}

function showNumbers() {
  const box = (regions[chosen] || {}).box;
  sides.forEach((field, k) => {
    if (document.activeElement !== field)
      field.value = box ? String(Math.round(box[k] * 1000) / 10) : "";
    field.disabled = !regions[chosen];
  });
}

// ---- The mouse, a finger, a pencil

function place(event) {
  const frame = canvas.getBoundingClientRect();
  return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
}

const clamp = (value) => Math.min(1, Math.max(0, value));
const inside = (box, x, y) => x > box[0] && x < box[2] && y > box[1] && y < box[3];

function handleAt(box, x, y) {
  const frame = canvas.getBoundingClientRect(), near = 14 / frame.width * canvas.width;
  const [px, py] = [x * canvas.width, y * canvas.height];
  const hit = corners(box).find(([, cx, cy]) =>
    Math.abs(cx - px) < near && Math.abs(cy - py) < near);
  return hit ? hit[0] : null;
}

canvas.addEventListener("pointerdown", (event) => {
  if (!regions[chosen]) return;
  event.preventDefault();
  canvas.focus({preventScroll: true});
  canvas.setPointerCapture(event.pointerId);
  const [x, y] = place(event);
  remember();
  if (tool !== "box") {
    drag = {kind: "paint", x, y};
    return stroke(x, y);
  }
  drag = grip(x, y);
});

function grip(x, y) {
  const box = regions[chosen].box, handle = box ? handleAt(box, x, y) : null;
  if (handle) return {kind: "resize", handle, x, y, box: [...box]};
  if (box && inside(box, x, y)) return {kind: "move", x, y, box: [...box]};
  const other = regions.findIndex((r) => r.box && inside(r.box, x, y));
  if (other >= 0) {
    chosen = other;
    return {kind: "move", x, y, box: [...regions[other].box]};
  }
  return {kind: "new", x, y};
}

canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = place(event);
  if (drag.kind === "paint") return stroke(x, y);
  const region = regions[chosen], dx = x - drag.x, dy = y - drag.y;
  if (drag.kind === "new") {
    region.box = [Math.min(x, drag.x), Math.min(y, drag.y), Math.max(x, drag.x),
      Math.max(y, drag.y)].map(clamp);
    region.mask = null;
  } else if (drag.kind === "move") {
    const [l, t, r, b] = drag.box;
    const mx = Math.min(1 - r, Math.max(-l, dx)), my = Math.min(1 - b, Math.max(-t, dy));
    region.box = [l + mx, t + my, r + mx, b + my];
  } else region.box = pulled(drag.box, drag.handle, dx, dy);
  draw();
});

function pulled(box, handle, dx, dy) {
  let [l, t, r, b] = box;
  const least = 0.03;
  if (handle.includes("l")) l = Math.min(r - least, clamp(l + dx));
  if (handle.includes("r")) r = Math.max(l + least, clamp(r + dx));
  if (handle.includes("t")) t = Math.min(b - least, clamp(t + dy));
  if (handle.includes("b")) b = Math.max(t + least, clamp(b + dy));
  return [l, t, r, b];
}

function finish() {
  if (!drag) return;
  const region = regions[chosen], box = region && region.box;
  const kind = drag.kind;
  drag = null;
  if (kind === "new" && box && (box[2] - box[0] < 0.03 || box[3] - box[1] < 0.03))
    region.box = null;
  if (region && region.mask && !region.mask.includes(1)) region.mask = null;
  if (JSON.stringify(plain()) === past[past.length - 1]) { past.pop(); return draw(); }
  tell();
}
canvas.addEventListener("pointerup", finish);
canvas.addEventListener("pointercancel", finish);

function stroke(x, y) {
  const region = regions[chosen], on = tool === "brush" ? 1 : 0;
  if (!region.mask) region.mask = region.box ? filled(region.box) : blank();
  region.box = null;
  const from = [drag.x * cells[0], drag.y * cells[1]], to = [x * cells[0], y * cells[1]];
  const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) * 2));
  for (let k = 0; k <= steps; k++)
    dab(region.mask, from[0] + (to[0] - from[0]) * k / steps,
      from[1] + (to[1] - from[1]) * k / steps, on);
  // A cell belongs to one phrase: paint takes it from the others' paint.
  if (on) regions.forEach((r, k) => {
    if (k !== chosen && r.mask) r.mask.forEach((_, c) => { if (region.mask[c]) r.mask[c] = 0; });
  });
  drag.x = x; drag.y = y;
  draw();
}

function filled(box) {
  const mask = blank();
  for (let y = 0; y < cells[1]; y++) for (let x = 0; x < cells[0]; x++)
    if (inside(box, (x + 0.5) / cells[0], (y + 0.5) / cells[1])) mask[y * cells[0] + x] = 1;
  return mask;
}

function dab(mask, cx, cy, on) {
  for (let y = Math.max(0, Math.floor(cy - brush)); y < Math.min(cells[1], cy + brush); y++)
    for (let x = Math.max(0, Math.floor(cx - brush)); x < Math.min(cells[0], cx + brush); x++)
      if (Math.hypot(x + 0.5 - cx, y + 0.5 - cy) <= brush) mask[y * cells[0] + x] = on;
}

// ---- Buttons, numbers, keys

for (const name of ["box", "brush", "eraser"])
  find(name).onclick = () => { tool = name; draw(); };
find("undo").onclick = () => travel(past, future);
find("redo").onclick = () => travel(future, past);
find("clear").onclick = () => regions[chosen] && change(() => {
  regions[chosen].box = regions[chosen].mask = null;
});
find("size").oninput = (event) => { brush = Number(event.target.value); };
find("under").onchange = draw;

function add() {
  const phrase = find("phrase").value.trim();
  if (!phrase) return;
  const there = regions.findIndex((r) => r.phrase === phrase);
  find("phrase").value = "";
  if (there >= 0) { chosen = there; return draw(); }
  change(() => {
    regions.push({phrase, box: null, mask: null});
    chosen = regions.length - 1;
  });
}
find("add").onclick = add;
find("phrase").onkeydown = (event) => {
  if (event.key === "Enter") { event.preventDefault(); add(); }
};

sides.forEach((field) => field.addEventListener("change", () => {
  const box = sides.map((one) => one.value.trim() === "" ? NaN : Number(one.value) / 100);
  if (box.some(Number.isNaN)) return;
  const wrong = box.some((edge) => edge < 0 || edge > 1) || box[0] >= box[2] || box[1] >= box[3];
  find("said").textContent = wrong
    ? "Left before right and top before bottom, each from 0 to 100." : "";
  if (!wrong) change(() => { regions[chosen].box = box; regions[chosen].mask = null; });
}));

canvas.addEventListener("keydown", (event) => {
  const region = regions[chosen];
  const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    return event.shiftKey ? travel(future, past) : travel(past, future);
  }
  if (!region) return;
  if (event.key === "Delete" || event.key === "Backspace") {
    event.preventDefault();
    return find("clear").click();
  }
  if (!move[event.key]) return;
  event.preventDefault();
  const step = event.ctrlKey ? 0.1 : 0.02, [dx, dy] = move[event.key].map((d) => d * step);
  change(() => {
    region.mask = null;
    const box = region.box || [0.3, 0.3, 0.7, 0.7];
    const [l, t, r, b] = box;
    if (!region.box) region.box = box;
    else if (event.shiftKey) region.box = pulled(box, "rb", dx, dy);
    else {
      const mx = Math.min(1 - r, Math.max(-l, dx)), my = Math.min(1 - b, Math.max(-t, dy));
      region.box = [l + mx, t + my, r + mx, b + my];
    }
  });
});

// ---- From the server

watch("value", () => {
  if (JSON.stringify(props.value) === sent) return;
  remember();
  take(props.value);
  sent = JSON.stringify(plain());
  draw();
});
watch("phrases", () => merge(props.phrases || []));
watch("prompt", draw);
watch("picture", () => show(props.picture));
watch("cells", () => resize(props.cells));

cells = props.cells || cells;
take(props.value);
sent = JSON.stringify(plain());
show(props.picture);
draw();
