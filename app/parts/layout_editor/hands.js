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
  // One that has no place yet is given one, whatever lies there.
  const other = placed(regions[chosen])
    ? regions.findIndex((r) => used(r) && r.box && inside(r.box, x, y)) : -1;
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
  const dx = x - drag.x, dy = y - drag.y;
  const box = drag.kind === "move" ? moved(drag.box, dx, dy)
    : drag.kind === "resize" ? pulled(drag.box, drag.handle, dx, dy)
    : [Math.min(x, drag.x), Math.min(y, drag.y), Math.max(x, drag.x), Math.max(y, drag.y)]
      .map(clamp);
  put(regions[chosen], {box});
  draw();
});

function moved([l, t, r, b], dx, dy) {
  const mx = Math.min(1 - r, Math.max(-l, dx)), my = Math.min(1 - b, Math.max(-t, dy));
  return [l + mx, t + my, r + mx, b + my];
}

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
  const region = regions[chosen], box = region && region.box, kind = drag.kind;
  drag = null;
  if (kind === "new" && box && (box[2] - box[0] < 0.03 || box[3] - box[1] < 0.03)) {
    take(JSON.parse(past.pop()));  // a click that slipped draws nothing, and wipes nothing
    return draw();
  }
  // What was wiped or painted over to the last cell has no place. A mask from a file, which nobody
  // has painted on, may be too soft for the canvas to show.
  for (const one of regions) if (one.cover && !one.mask && !one.cover.includes(1)) put(one, {});
  if (JSON.stringify(plain()) === past[past.length - 1]) { past.pop(); return draw(); }
  tell();
}
canvas.addEventListener("pointerup", finish);
canvas.addEventListener("pointercancel", finish);

function stroke(x, y) {
  const region = regions[chosen], on = tool === "brush" ? 1 : 0;
  if (!region.cover) put(region, {cover: filled(region)});
  // All masks of a layout have one size: with the first stroke it is the canvas's.
  for (const one of regions) one.mask = null;
  const from = [drag.x * cells[0], drag.y * cells[1]], to = [x * cells[0], y * cells[1]];
  const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) * 2));
  for (let k = 0; k <= steps; k++)
    dab(region.cover, from[0] + (to[0] - from[0]) * k / steps,
      from[1] + (to[1] - from[1]) * k / steps, on);
  // A cell belongs to one region, unless ground is shared: paint takes it from the others' paint.
  if (on && whole.overlap !== "share") regions.forEach((r, k) => {
    if (k !== chosen && r.cover)
      r.cover.forEach((_, c) => { if (region.cover[c]) r.cover[c] = 0; });
  });
  drag.x = x; drag.y = y;
  draw();
}

function filled(region) {
  const cover = blank(), path = region.polygon && outline(region.polygon);
  const holds = (x, y) => path
    ? pen.isPointInPath(path, x * canvas.width, y * canvas.height, "evenodd")
    : Boolean(region.box) && inside(region.box, x, y);
  for (let y = 0; y < cells[1]; y++) for (let x = 0; x < cells[0]; x++)
    if (holds((x + 0.5) / cells[0], (y + 0.5) / cells[1])) cover[y * cells[0] + x] = 1;
  return cover;
}

function dab(cover, cx, cy, on) {
  for (let y = Math.max(0, Math.floor(cy - brush)); y < Math.min(cells[1], cy + brush); y++)
    for (let x = Math.max(0, Math.floor(cx - brush)); x < Math.min(cells[0], cx + brush); x++)
      if (Math.hypot(x + 0.5 - cx, y + 0.5 - cy) <= brush) cover[y * cells[0] + x] = on;
}

// ---- Buttons, numbers, keys

for (const name of ["box", "brush", "eraser"])
  find(name).onclick = () => { tool = name; draw(); };
find("undo").onclick = () => travel(past, future);
find("redo").onclick = () => travel(future, past);
find("clear").onclick = () => regions[chosen] && change(() => put(regions[chosen], {}));
find("size").oninput = (event) => { brush = Number(event.target.value); };
find("under").onchange = draw;

function add() {
  const words = find("phrase").value.trim();
  if (!words) return;
  const there = regions.findIndex((r) => bare(label(r)) === bare(words));
  find("phrase").value = "";
  if (there >= 0) return choose(there);
  // What the prompt does not say is a text of the region's own.
  const phrase = fresh({phrase: words});
  change(() => {
    regions.push(known(phrase) ? phrase : fresh({phrase: "", own: {text: words}}));
    chosen = regions.length - 1;
  });
}
find("add").onclick = add;
find("phrase").onkeydown = (event) => {
  if (event.key === "Enter") { event.preventDefault(); add(); }
};

sides.forEach((field) => field.addEventListener("change", () => {
  const box = sides.map((one) => one.value.trim() === "" ? null : numberOf(one.value) / 100);
  const missing = box.includes(null), within = (edge) => edge === null || (edge >= 0 && edge <= 1);
  const wrong = !box.every(within) || (!missing && (box[0] >= box[2] || box[1] >= box[3]));
  edges = wrong ? "Left before right and top before bottom, each a number from 0 to 100." : "";
  // A first box comes edge by edge; one that is there keeps its own where nothing is given.
  if (wrong || (missing && regions[chosen].box)) return draw();
  if (!missing) change(() => put(regions[chosen], {box}));
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
  change(() => put(region, {
    box: !region.box ? [0.3, 0.3, 0.7, 0.7]
      : event.shiftKey ? pulled(region.box, "rb", dx, dy) : moved(region.box, dx, dy)
  }));
});

// ---- From the server

watch("cells", () => resize(props.cells));
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

cells = props.cells || cells;
take(props.value);
sent = JSON.stringify(plain());
show(props.picture);
draw();
