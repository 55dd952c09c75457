// The review page: what is open, and what the reader does to it.
import { json } from "./api.js";
import { Brush } from "./brush.js";
import { bind } from "./keys.js";
import { Pane } from "./pane.js";
import { $, fail, note, showCase, showCases, showChange, showClasses, showWindows } from "./panels.js";
import { greyTable, nameOf, planesOf } from "./plane.js";
import { Plot } from "./plot.js";
import { listen } from "./pointer.js";
import { decide, save, versionOf } from "./saving.js";
import { advise, follow, teach } from "./teaching.js";
import { Volume } from "./volume.js";

const rgba = (hex) => (0xff << 24) | (parseInt(hex.slice(5, 7), 16) << 16) | (parseInt(hex.slice(3, 5), 16) << 8) | parseInt(hex.slice(1, 3), 16);

class App {
  constructor() {
    Object.assign(this, { cases: [], classes: [], info: null, volume: null, cross: [0, 0, 0], tool: "look", size: 8, active: 1, comparing: false, change: null, advice: null, working: false, frame: 0 });
    this.style = { hidden: new Set(), colours: [], css: [], opacity: 0.38, shown: true };
    this.brush = new Brush();
    this.panes = [new Pane($("pane-main"), true), new Pane($("pane-h"), false), new Pane($("pane-w"), false)];
    this.panes.forEach((pane) => listen(this, pane));
    this.plot = new Plot($("plot"), (slice) => this.go(slice));
    new ResizeObserver(() => this.repaint(false)).observe($("stage"));
    addEventListener("beforeunload", (event) => { if (this.dirty.size) event.preventDefault(); });
  }

  get dirty() { return this.volume?.dirty ?? new Set(); }
  get saved() { return new Set(Object.keys(this.info?.slices ?? {}).map(Number)); }
  get flat() { return this.info.axis === "t" || this.info.shape[0] === 1; }

  async start() {
    const overview = await json("/api/review");
    Object.assign(this, { cases: overview.cases, classes: overview.classes, teaches: overview.teaches });
    for (const one of this.classes) { this.style.colours[one.value] = rgba(one.colour); this.style.css[one.value] = one.colour; }
    this.active = this.classes[0].value;
    $("segment").disabled = $("segment-all").disabled = !this.teaches;
    $("no-task").hidden = this.teaches;
    this.take("look");
    await this.open(this.cases[0].id);
    if (overview.missing) note(`${overview.missing} results have no image here and are left out`, true);
  }

  async open(id) {
    if (this.dirty.size && !(await this.save())) return;
    this.volume?.close();
    this.opening = id;
    $("loading").className = "";
    $("loading-text").textContent = "Reading the case";
    this.showCases();
    delete document.body.dataset.loaded;
    let info;
    try {
      info = await json(`/api/cases/${id}`);
    } catch (error) {
      if (this.opening === id) this.cannotOpen(error);
      return;
    }
    if (this.opening !== id) return;
    Object.assign(this, { info, change: null, advice: null, comparing: false });
    this.brush.clear();
    this.volume = new Volume(info, (first, count) => this.arrived(first, count));
    const worst = info.expected_wrong.indexOf(Math.max(...info.expected_wrong));
    this.cross = [worst, info.shape[1] >> 1, info.shape[2] >> 1];
    $("stage").classList.toggle("flat", this.flat);
    document.body.classList.toggle("single", info.shape[0] === 1);
    planesOf(info).forEach((plane, n) => this.panes[n].open(this.volume, plane));
    this.window = { ...info.windows[0] };
    this.table = greyTable(info, this.window.low, this.window.high);
    this.plot.open(info);
    this.volume.open(worst).catch(fail);
    this.refresh();
    this.advise();
  }

  // A case that cannot be read: said where its picture would be; the other cases stay within reach.
  cannotOpen(error) {
    Object.assign(this, { info: null, volume: null, change: null, advice: null });
    this.brush.clear();
    $("loading").className = "failed";
    $("case-name").textContent = this.cases.find((one) => one.id === this.opening).name;
    $("case-note").textContent = "";
    $("loading-text").textContent = `This case cannot be shown. ${error.message}`;
    this.refresh();
  }

  arrived(first, count) {
    if (!this.volume) return;
    this.panes.forEach((pane, n) => { if (n || (this.cross[0] >= first && this.cross[0] < first + count)) pane.touch(); });
    this.repaint(false);
    if (this.volume.chunks.every((chunk) => chunk === "here")) this.ahead();
  }

  // Let the server read the next case while this one is looked at.
  async ahead() {
    const { id } = this.info, next = this.cases[this.cases.findIndex((one) => one.id === id) + 1];
    if (next) await json(`/api/cases/${next.id}`).catch(() => {});
    if (this.info?.id === id) document.body.dataset.loaded = id;
  }

  showCases() { showCases(this, (id) => this.open(id).catch(fail)); }

  refresh() {
    this.showCases();
    document.body.classList.toggle("shut", !this.info);
    if (!this.info) return;
    showClasses(this, (value) => this.choose(value), (value) => this.toggleClass(value));
    showWindows(this, (one) => this.setWindow(one));
    showCase(this);
    showChange(this);
    this.repaint();
  }

  // Draw at the next frame: all of it, the masks only, or nothing but where things lie.
  repaint(image = true, compose = false) {
    if (!compose) this.panes.forEach((pane) => pane.volume && pane.touch(image));
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.volume) return;
      for (const pane of this.flat ? this.panes.slice(0, 1) : this.panes) pane.draw(this);
      this.plot.draw(this);
      $("loading").className = this.volume.images[this.cross[0]] ? "done" : "";
      $("loading-text").textContent = this.volume.trouble ?? "Reading the case";
      $("compare-badge").hidden = !(this.comparing && this.volume.before);
      if (this.panes[0].painted && !this.firstPaint) this.firstPaint = document.body.dataset.painted = performance.now();
      this.label();
    });
  }

  label() {
    this.panes.forEach((pane, n) => {
      const { fixed } = pane.plane, of = this.info.shape[fixed];
      const word = this.info.axis === "t" ? "frame" : nameOf(pane.plane, this.info);
      pane.note.textContent = of > 1 ? `${word}${word ? " " : ""}${this.cross[fixed] + 1}${n === 0 ? ` / ${of}` : ""}${n === 0 && this.reading ? `\n${this.reading}` : ""}` : this.reading || "";
    });
  }

  hover(pane) {
    this.reading = "";
    if (pane?.pointer && this.volume) {
      const voxel = pane.voxelAt(...pane.pointer), at = [...this.cross];
      at[pane.plane.row] = voxel.row;
      at[pane.plane.col] = voxel.col;
      const value = voxel.inside ? this.volume.stored(...at) : null;
      const label = value === null ? 0 : this.volume.labels[at[0]]?.[at[1] * this.info.shape[2] + at[2]];
      const name = this.classes.find((one) => one.value === label)?.name;
      if (value !== null) this.reading = `${Array.isArray(value) ? value.join(" ") : +value.toPrecision(5)}${name ? ` · ${name}` : ""}`;
    }
    this.label();
  }

  go(slice) { this.moveCross([slice, this.cross[1], this.cross[2]]); }
  step(axis, by) { const next = [...this.cross]; next[axis] += by; this.moveCross(next); }

  moveCross(next) {
    if (!this.info || this.brush.stroke) return;
    next = next.map((v, axis) => Math.max(0, Math.min(this.info.shape[axis] - 1, v)));
    this.cross = next;
    this.volume.around(next[0]);
    this.repaint(false, true);
  }

  next(by) {
    const at = this.cases.findIndex((one) => one.id === this.opening) + by;
    if (this.cases[at]) this.open(this.cases[at].id).catch(fail);
  }

  take(tool) {
    this.tool = tool;
    for (const one of ["look", "brush", "erase"]) $(`tool-${one}`).setAttribute("aria-checked", String(one === tool));
    this.panes[0].canvas.style.cursor = tool === "look" ? "crosshair" : "none";
    this.repaint(false, true);
  }

  resize(by) { this.setSize(this.size + by * Math.max(1, Math.round(this.size / 8))); }
  setSize(size) { this.size = Math.max(1, Math.min(60, size)); $("size").value = $("size-now").textContent = this.size; this.repaint(false, true); }
  fit() { this.panes.forEach((pane) => { pane.zoom = 1; pane.shift = [0, 0]; }); this.repaint(false, true); }

  nextClass(by) {
    const at = this.classes.findIndex((one) => one.value === this.active) + by;
    if (this.classes[at]) this.choose(this.classes[at].value);
  }

  choose(value) {
    this.active = value;
    this.style.hidden.delete(value);
    this.refresh();
  }

  toggleClass(value) {
    if (!this.style.hidden.delete(value)) this.style.hidden.add(value);
    this.refresh();
  }

  toggleMasks() {
    this.style.shown = !this.style.shown;
    $("masks").textContent = this.style.shown ? "hide" : "show";
    this.repaint(false, true);
  }

  setWindow(one) {
    this.window = { low: one.low, high: one.high };
    this.table = greyTable(this.info, one.low, one.high);
    showWindows(this, (other) => this.setWindow(other));
    this.repaint();
  }

  nextWindow() {
    if (!this.info) return;
    const { windows } = this.info, at = windows.findIndex((one) => one.low === this.window.low && one.high === this.window.high);
    this.setWindow(windows[(at + 1) % windows.length]);
  }

  beginStroke() {
    const labels = this.volume.labels[this.cross[0]];
    if (!labels || this.comparing) return false;
    this.brush.begin(this.cross[0], labels);
    return true;
  }

  paint({ row, col }) {
    this.brush.paint(this.volume.labels[this.cross[0]], this.info, row, col, this.size, this.tool === "brush" ? this.active : 0);
    this.repaint(false);
  }

  endStroke() { if (this.brush.end(this.volume.labels[this.cross[0]])) this.changed(this.cross[0]); }
  undo() { if (!this.volume) return; const slice = this.brush.undo(this.volume.labels); if (slice !== null) { this.changed(slice); this.go(slice); } }
  redo() { if (!this.volume) return; const slice = this.brush.redo(this.volume.labels); if (slice !== null) { this.changed(slice); this.go(slice); } }

  changed(slice) {
    if (!this.dirty.has(slice)) this.volume.base.set(slice, versionOf(this.info, slice));
    this.volume.dirty.add(slice);
    showCase(this);
    this.repaint(false);
  }

  save() { return save(this); }
  decide(status) { return decide(this, status); }
  teach(all = false) { return teach(this, all); }
  advise() { return advise(this); }
  follow() { return follow(this); }
}

const app = new App();
bind(app);
for (const tool of ["look", "brush", "erase"]) $(`tool-${tool}`).addEventListener("click", () => app.take(tool));
$("size").addEventListener("input", (event) => app.setSize(Number(event.target.value)));
$("opacity").addEventListener("input", (event) => { app.style.opacity = event.target.value / 100; $("opacity-now").textContent = event.target.value; app.repaint(false, true); });
$("masks").addEventListener("click", () => app.toggleMasks());
$("accept").addEventListener("click", () => app.decide("accepted"));
$("reject").addEventListener("click", () => app.decide("rejected"));
$("save").addEventListener("click", () => app.save());
$("segment").addEventListener("click", () => app.teach());
$("segment-all").addEventListener("click", () => app.teach(true));
$("suggest").addEventListener("click", () => app.follow().catch(fail));
$("help").addEventListener("click", () => $("keys").showModal());
$("compare").addEventListener("pointerdown", () => { app.comparing = true; app.repaint(false); });
addEventListener("pointerup", () => { if (app.comparing) { app.comparing = false; app.repaint(false); } });
app.start().catch(fail);
