// Everything beside the image: cases, classes, windows, what changed.
const EYE = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M2 10s3-5 8-5 8 5 8 5-3 5-8 5-8-5-8-5z"/><circle cx="10" cy="10" r="2.2"/></svg>';
export const $ = (id) => document.getElementById(id);
const percent = (value) => `${Math.round(value * 100)}%`;

export function make(kind, className, text) {
  const element = document.createElement(kind);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export const diceText = (dice) => (dice === null || dice === undefined ? "–" : dice.toFixed(2));
const diceColour = (dice) => (dice === null ? "#555e6c" : dice < 0.5 ? "#e5695f" : dice < 0.75 ? "#e8a23d" : "#3fb68b");

export function showCases(app, open) {
  const list = $("cases");
  list.replaceChildren(...app.cases.map((one) => {
    const item = make("li");
    item.dataset.id = one.id;
    item.tabIndex = 0;
    item.setAttribute("aria-current", String(one.id === app.info?.id));
    item.append(make("span", "name", one.name));
    const dice = make("span", "dice", diceText(one.predicted_dice));
    dice.title = "predicted Dice";
    dice.style.color = diceColour(one.predicted_dice);
    const meter = make("div", "meter"), bar = make("i");
    bar.style.width = percent(one.predicted_dice ?? 0);
    bar.style.background = diceColour(one.predicted_dice);
    meter.append(bar);
    const what = make("span", "what");
    const corrected = Object.keys(one.slices).length;
    const look = one.review.length ? `look at ${one.review.join(", ")}` : "";
    const text = make("span", "", corrected ? `${corrected} slice${corrected > 1 ? "s" : ""} corrected` : look);
    text.style.overflow = "hidden"; text.style.textOverflow = "ellipsis"; text.style.whiteSpace = "nowrap";
    what.append(text);
    if (one.status !== "open") what.append(make("span", `tag ${one.status}`, one.status));
    item.append(dice, meter, what);
    item.addEventListener("click", () => open(one.id));
    item.addEventListener("keydown", (event) => { if (event.key === "Enter") open(one.id); });
    return item;
  }));
  const done = app.cases.filter((one) => one.status !== "open").length;
  $("reviewed").textContent = `${done} of ${app.cases.length} reviewed`;
  $("reviewed-bar").style.width = percent(done / app.cases.length);
  list.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
}

export function showClasses(app, choose, toggle) {
  $("classes").replaceChildren(...app.classes.map((one, k) => {
    const item = make("li", app.style.hidden.has(one.value) ? "off" : "");
    item.dataset.value = one.value;
    item.setAttribute("aria-selected", String(one.value === app.active));
    const swatch = make("span", "swatch");
    swatch.style.background = one.colour;
    const name = make("span", "name", one.name);
    name.title = k < 9 ? `${one.name} (key ${k + 1})` : one.name;
    const dice = make("span", "dice", diceText(app.info?.class_dice[one.name]));
    dice.title = "predicted Dice in this case";
    const eye = make("button", "eye");
    eye.innerHTML = EYE;
    eye.title = `Show or hide ${one.name}`;
    eye.setAttribute("aria-label", eye.title);
    eye.addEventListener("click", (event) => { event.stopPropagation(); toggle(one.value); });
    item.append(swatch, name, dice, eye);
    item.addEventListener("click", () => choose(one.value));
    return item;
  }));
}

export function showWindows(app, choose) {
  $("windows").replaceChildren(...app.info.windows.map((one) => {
    const button = make("button", one.low === app.window.low && one.high === app.window.high ? "on" : "", one.name);
    button.addEventListener("click", () => choose(one));
    return button;
  }));
  const digits = app.window.high - app.window.low < 10 ? 2 : 0;
  $("window-now").textContent = `${app.window.low.toFixed(digits)} to ${app.window.high.toFixed(digits)} · right drag changes it`;
}

export function showCase(app) {
  const { info } = app, [depth, height, width] = info.shape;
  $("case-name").textContent = info.name;
  const corrected = app.saved.size ? `, ${app.saved.size} corrected` : "";
  const unit = info.axis === "t" ? "frames" : depth > 1 ? "slices" : "picture";
  const size = depth > 1 ? `${width} × ${height}, ${depth} ${unit}` : `${width} × ${height}`;
  $("case-note").textContent = `predicted Dice ${diceText(info.predicted_dice)} · ${size}${corrected}`;
  $("accept").classList.toggle("on", info.status === "accepted");
  $("reject").classList.toggle("on", info.status === "rejected");
  $("accept").textContent = info.status === "accepted" ? "Accepted" : "Accept";
  $("reject").textContent = info.status === "rejected" ? "Rejected" : "Reject";
  const n = app.dirty.size;
  $("save").disabled = n === 0;
  $("save").firstChild.textContent = n > 1 ? `Save ${n} slices ` : "Save slice ";
  const word = info.axis === "t" ? "frames" : "slices";
  $("quality-title").textContent = depth > 1 ? `Quality along the ${word}` : "Quality";
  const legend = [["#d8dee8", "all classes", ""]];
  const active = app.classes.find((one) => one.value === app.active);
  if (active) legend.push([active.colour, active.name, ""]);
  if (app.saved.size) legend.push(["#56b4e9", "corrected", "dot"]);
  if (app.change) legend.push(["rgba(232,162,61,.6)", "changed", "dot"]);
  $("legend").replaceChildren(...legend.map(([colour, text, kind]) => {
    const entry = make("span"), mark = make("i", kind);
    mark.style.background = colour;
    entry.append(mark, text);
    return entry;
  }));
}

export function showChange(app) {
  const { change } = app;
  $("change").hidden = !change;
  if (!change) return;
  const [was, now] = change.predicted_dice;
  const slices = `${change.slices} slice${change.slices === 1 ? "" : "s"}`;
  $("change-sum").textContent = change.voxels
    ? `${change.voxels.toLocaleString("en")} voxels in ${slices} · predicted Dice ${diceText(was)} → ${diceText(now)}`
    : "Nothing: the masks are as they were.";
  $("change-table").replaceChildren(...change.classes.filter((one) => one.changed).map((one) => {
    const known = app.classes.find((c) => c.value === one.value), row = make("tr"), name = make("td"), dot = make("i");
    dot.style.background = known.colour;
    name.append(dot, known.name);
    const more = one.now - one.before;
    row.append(name, make("td", "", `${more >= 0 ? "+" : "−"}${Math.abs(more).toLocaleString("en")}`));
    return row;
  }));
}

export function note(text, bad = false) {
  const line = make("p", bad ? "bad" : "", text);
  $("notes").append(line);
  setTimeout(() => line.remove(), bad ? 7000 : 2600);
}

export function fail(error) {
  if (error.name !== "AbortError") note(error.message, true);
}

export function showJob(job) {
  $("job").hidden = !job;
  if (!job) return;
  $("job").querySelector("span").textContent = job.state === "waiting" ? "waiting" : job.what;
  $("job").querySelector("i").style.width = percent(job.done);
}
