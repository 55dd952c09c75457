// Quality along the slices: a click jumps.
const TOP = 10, BOTTOM = 18, LEFT = 30, RIGHT = 6;

export class Plot {
  constructor(canvas, jump) {
    this.canvas = canvas;
    const go = (event) => {
      if (!this.info) return;
      const box = canvas.getBoundingClientRect();
      jump(Math.max(0, Math.min(this.depth - 1, Math.floor(((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * this.depth))));
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); go(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) go(event); });
  }

  open(info) {
    this.info = info;
    this.depth = info.shape[0];
    this.mean = Array.from({ length: this.depth }, (_, s) => {
      let sum = 0, weight = 0;
      info.quality.forEach((line, k) => { sum += line[s] * info.pixels[k][s]; weight += info.pixels[k][s]; });
      return weight ? sum / weight : null;
    });
  }

  draw(app) {
    const { canvas, info } = this;
    if (!info || !canvas.clientWidth) return;
    const ratio = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const c = canvas.getContext("2d");
    c.scale(ratio, ratio);
    const wide = (width - LEFT - RIGHT) / this.depth, x = (s) => LEFT + (s + 0.5) * wide, y = (q) => TOP + (1 - q) * (height - TOP - BOTTOM);
    c.font = "11px system-ui, sans-serif";
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const q of [0, 0.5, 1]) {
      c.fillStyle = "#7b8494";
      c.fillText(q.toFixed(1), LEFT - 7, y(q));
      c.strokeStyle = q === 0 ? "#333a45" : "#232932";
      c.beginPath(); c.moveTo(LEFT, Math.round(y(q)) + 0.5); c.lineTo(width - RIGHT, Math.round(y(q)) + 0.5); c.stroke();
    }
    if (app.change) this.bars(c, app.change.changed, x, y, wide);
    const k = app.classes.findIndex((one) => one.value === app.active);
    if (k >= 0) this.line(c, info.quality[k].map((q, s) => (info.pixels[k][s] ? q : null)), x, y, app.classes[k].colour, 1.5);
    this.line(c, this.mean, x, y, "#d8dee8", 1.8);
    for (const s of [...app.saved, ...app.dirty]) {
      c.beginPath();
      c.arc(x(s), TOP - 4, 3.6, 0, 7);
      c.fillStyle = app.dirty.has(s) ? "#e8a23d" : "#56b4e9";
      c.fill();
    }
    if (app.advice !== null) {
      c.beginPath();
      c.moveTo(x(app.advice) - 5, height - 5); c.lineTo(x(app.advice) + 5, height - 5); c.lineTo(x(app.advice), height - 13); c.closePath();
      c.fillStyle = "#e8a23d";
      c.fill();
    }
    const here = app.cross[0];
    c.fillStyle = "rgba(86,180,233,.2)";
    c.fillRect(x(here) - Math.max(wide, 3) / 2, TOP, Math.max(wide, 3), height - TOP - BOTTOM);
    c.fillStyle = "#56b4e9";
    c.fillRect(x(here) - 0.75, TOP, 1.5, height - TOP - BOTTOM);
    c.fillStyle = "#98a1b0";
    c.textBaseline = "alphabetic";
    c.textAlign = "left"; c.fillText("1", LEFT, height - 4);
    c.textAlign = "right"; c.fillText(String(this.depth), width - RIGHT, height - 4);
  }

  line(c, values, x, y, colour, width) {
    c.strokeStyle = c.fillStyle = colour;
    c.lineWidth = width;
    c.lineJoin = "round";
    c.beginPath();
    let open = false;
    values.forEach((q, s) => {
      if (q === null) { open = false; return; }
      if (open) c.lineTo(x(s), y(q)); else c.moveTo(x(s), y(q));
      open = true;
    });
    c.stroke();
    values.forEach((q, s) => { // a slice on its own has no line
      if (q !== null && (values[s - 1] ?? null) === null && (values[s + 1] ?? null) === null) { c.beginPath(); c.arc(x(s), y(q), 3, 0, 7); c.fill(); }
    });
    c.lineWidth = 1;
  }

  bars(c, changed, x, y, wide) {
    const most = Math.max(1, ...changed);
    c.fillStyle = "rgba(232,162,61,.34)";
    changed.forEach((n, s) => { if (n) c.fillRect(x(s) - (wide * 0.7) / 2, y(n / most), Math.max(1, wide * 0.7), y(0) - y(n / most)); });
  }
}
