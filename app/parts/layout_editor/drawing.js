// ---- The canvas: the last picture, and every region over it with edges as soft as they will be

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
  regions.forEach(drawRegion);
  if (regions[chosen] && regions[chosen].box) drawHandles(regions[chosen].box);
  drawList();
  drawFields();
}

function drawRegion(region, k) {
  const colour = COLOURS[k % COLOURS.length];
  const blur = Number(own(region, "feather")) / 2 * Math.min(canvas.width, canvas.height);
  pen.filter = blur > 0 && blur <= 512 ? `blur(${blur}px)` : "none";
  pen.fillStyle = colour + (k === chosen ? "8c" : used(region) ? "59" : "22");
  if (region.cover) drawCover(region.cover, pen.fillStyle);
  else if (region.polygon) pen.fill(outline(region.polygon), "evenodd");
  else if (region.box) pen.fillRect(...beyond(region.box, 3 * blur));
  pen.filter = "none";
  if (region.box) drawBox(region, colour, k === chosen);
}

function drawCover(cover, style) {
  const stamp = new OffscreenCanvas(...cells), ink = stamp.getContext("2d");
  ink.fillStyle = style;
  ink.fillRect(0, 0, ...cells);
  const cut = ink.getImageData(0, 0, ...cells);
  cover.forEach((on, cell) => { if (!on) cut.data[4 * cell + 3] = 0; });
  ink.putImageData(cut, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(stamp, 0, 0, canvas.width, canvas.height);
}

function outline(polygon) {
  const path = new Path2D();
  for (const [x, y] of polygon) path.lineTo(x * canvas.width, y * canvas.height);
  path.closePath();
  return path;
}

function beyond(box, more) {
  // The picture's own edge is no edge of a region: nothing fades there.
  const [l, t, r, b] = pixels(box), [left, top] = [l > 0 ? l : -more, t > 0 ? t : -more];
  const right = r < canvas.width ? r : r + more, bottom = b < canvas.height ? b : b + more;
  return [left, top, right - left, bottom - top];
}

function drawBox(region, colour, isChosen) {
  const [l, t, r, b] = pixels(region.box);
  pen.strokeStyle = colour + (used(region) ? "" : "55");
  pen.lineWidth = isChosen ? 4 : 2;
  pen.strokeRect(l, t, r - l, b - t);
  pen.font = "600 17px sans-serif";
  const name = shortened(label(region)), width = pen.measureText(name).width + 12;
  pen.fillStyle = colour;
  pen.fillRect(l, Math.max(0, t - 24), width, 24);
  pen.fillStyle = "#ffffff";
  pen.fillText(name, l + 6, Math.max(0, t - 24) + 17);
}

const shortened = (text) => text.length > 32 ? `${text.slice(0, 31)}…` : text;
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
