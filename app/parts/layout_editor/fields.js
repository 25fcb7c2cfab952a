// ---- The list of regions, and the fields of the chosen one

function drawList() {
  // Rows are kept: one that is drawn anew while a field is left would swallow the click that left it.
  const within = list.contains(document.activeElement);
  while (list.children.length > regions.length) list.lastChild.remove();
  while (list.children.length < regions.length) list.append(row());
  regions.forEach((region, k) => fillRow(list.children[k], region, k));
  if (within && !list.contains(document.activeElement))
    list.lastElementChild?.querySelector(".pick").focus();
  find("undo").disabled = !past.length;
  find("redo").disabled = !future.length;
  find("clear").disabled = !regions[chosen];
  for (const name of ["box", "brush", "eraser"])
    find(name).setAttribute("aria-pressed", String(tool === name));
}

function row() {
  const make = (tag, css) => Object.assign(document.createElement(tag), {className: css});
  const item = make("li", "region"), pick = make("button", "pick"), drop = make("button", "drop");
  const place = () => [...list.children].indexOf(item);
  pick.type = drop.type = "button";
  pick.append(make("span", "colour"), make("span", "name"), make("span", "state"));
  pick.onclick = () => choose(place());
  drop.textContent = "×";
  drop.onclick = () => change(() => {
    const gone = place();
    regions.splice(gone, 1);
    // Whoever removes another region goes on with the one that was chosen.
    chosen = Math.max(0, Math.min(gone < chosen ? chosen - 1 : chosen, regions.length - 1));
  });
  item.append(pick, drop);
  return item;
}

function fillRow(item, region, k) {
  const [pick, drop] = item.children, [chip, name, state] = pick.children;
  item.className = k === chosen ? "region chosen" : "region";
  pick.setAttribute("aria-pressed", String(k === chosen));
  chip.style.background = COLOURS[k % COLOURS.length];
  name.textContent = label(region);
  name.title = label(region);
  state.textContent = stateOf(region);
  drop.setAttribute("aria-label", `Remove ${label(region)}`);
}

function stateOf(region) {
  if (!label(region)) return "needs a text";
  if (!used(region)) return "not in the prompt, not used";
  const place = region.cover ? "painted" : region.polygon ? "shape" : region.box ? "box"
    : "no place yet";
  const said = marks(region);
  return [place, ...(said.length > 1 ? [`${said.length} details`] : said)].join(", ");
}

const NAMES = {text: "own text", feather: "soft edge", lora: "LoRA"};
const marks = (region) => Object.keys(OWN).filter((name) => name in region.own)
  .map((name) => NAMES[name] || name);

const fields = [...element.querySelectorAll("[data-own]")];
const base = element.querySelector("[data-whole=base]");
const overlap = element.querySelector("[data-whole=overlap]");

function drawFields() {
  const region = regions[chosen];
  const said = [...(region ? marks(region) : []), ...("base" in whole ? ["base"] : []),
    ...(whole.overlap === "share" ? ["shared ground"] : [])];
  find("whose").textContent = region ? `Details of ${shortened(label(region) || "…")}` : "Details";
  find("marks").textContent = said.join(", ");
  const wrong = complaint(region);
  for (const field of fields) {
    const name = field.dataset.own;
    field.disabled = !region;
    field.setAttribute("aria-invalid", String(wrong.where.includes(name)));
    write(field, region ? held(field) : "");
  }
  fields[0].placeholder = region && region.phrase ? `its phrase: ${region.phrase}`
    : "what belongs here";
  base.setAttribute("aria-invalid", String(wrong.where.includes("base")));
  write(base, held(base));
  overlap.value = whole.overlap === "share" ? "share" : "last";
  find("said").textContent = edges || wrong.text;
  const box = region && region.box;
  sides.forEach((field, k) => {
    write(field, box ? Math.round(box[k] * 1000) / 10 : "");
    field.disabled = !region;
  });
}

function write(field, value) {
  // What is being typed stays.
  if (document.activeElement !== field) field.value = String(value);
}

function complaint(region) {
  const within = (value, most) => typeof value === "number" && value >= 0 && value <= most;
  for (const name of region ? ["strength", "feather", "start", "stop"] : []) {
    const most = name === "strength" ? 100 : 1;
    if (!within(own(region, name), most))
      return {where: [name], text: `${NAMES[name] || name}: a number from 0 to ${most}.`};
  }
  if (region && own(region, "start") >= own(region, "stop"))
    return {where: ["start", "stop"], text: "It must start before it stops."};
  if ("base" in whole && !within(whole.base, 1))
    return {where: ["base"], text: "base: a number from 0 to 1, or nothing for the method's."};
  return {where: [], text: ""};
}

function numberOf(typed) {
  // What is no number stays as it was typed: the sentence says so, and Generate does too.
  const number = Number(typed.replace(",", "."));
  return Number.isFinite(number) ? number : typed;
}

const held = (field) => field !== base ? own(regions[chosen], field.dataset.own)
  : "base" in whole ? whole.base : "";

function commit(field) {
  const typed = field.value.trim(), region = regions[chosen];
  if (field === base) {
    const next = typed === "" ? undefined : numberOf(typed);
    if (next === whole.base) return;
    return change(() => { if (next === undefined) delete whole.base; else whole.base = next; });
  }
  const name = field.dataset.own, usual = OWN[name];
  const next = typed === "" ? usual : typeof usual === "string" ? typed : numberOf(typed);
  if (next !== own(region, name)) change(() => say(region, name, next));
}

for (const field of [...fields, base]) {
  field.addEventListener("change", () => { commit(field); field.value = String(held(field)); });
  field.addEventListener("keydown", (event) => step(event, field));
}

function step(event, field) {
  const up = {ArrowUp: 1, ArrowDown: -1}[event.key];
  const usual = field === base ? 0 : OWN[field.dataset.own], now = numberOf(field.value || "0");
  if (!up || typeof usual !== "number" || typeof now !== "number") return;
  event.preventDefault();
  field.value = String(Math.max(0, Math.round((now + 0.05 * up) * 100) / 100));
  commit(field);
}

overlap.addEventListener("change", () => change(() => { whole.overlap = overlap.value; }));
find("details").addEventListener("toggle", (event) =>
  event.target.open && event.target.scrollIntoView({block: "nearest"}));
