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

// New entries for a list of which one is chosen: that one is reached by Tab, and the focus stays where it was.
function refill(list, items, act) {
  const at = [...list.children].findIndex((item) => item.contains(document.activeElement));
  const onEye = document.activeElement.matches(".eye");
  for (const item of items) {
    item.setAttribute("role", "option");
    item.tabIndex = item.getAttribute("aria-selected") === "true" ? 0 : -1;
    item.addEventListener("click", () => act(item));
    item.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target === item) act(item); });
  }
  list.replaceChildren(...items);
  const chosen = list.querySelector("[aria-selected=true]");
  if (at >= 0) (onEye ? items[at].querySelector(".eye") : chosen ?? items[at]).focus({ preventScroll: true });
  chosen?.scrollIntoView({ block: "nearest" });
}

// A name whose end stays in sight: cases often differ in their last letters only.
function nameTag(name) {
  const tag = make("span", "name"), kept = name.length > 18 ? 9 : 0;
  tag.title = name;
  tag.append(make("span", "head", kept ? name.slice(0, -kept) : name), kept ? name.slice(-kept) : "");
  return tag;
}

export function showCases(app, open) {
  refill($("cases"), app.cases.map((one) => {
    const item = make("li");
    item.dataset.id = one.id;
    item.setAttribute("aria-selected", String(one.id === app.opening));
    item.append(nameTag(one.name));
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
    const text = make("span", "cut", corrected ? `${corrected} slice${corrected > 1 ? "s" : ""} corrected` : look);
    text.title = look;
    what.append(text);
    if (one.status !== "open") what.append(make("span", `tag ${one.status}`, one.status));
    item.append(dice, meter, what);
    return item;
  }), (item) => open(item.dataset.id));
  const done = app.cases.filter((one) => one.status !== "open").length;
  $("reviewed").textContent = `${done} of ${app.cases.length} reviewed`;
  $("reviewed-bar").style.width = percent(done / app.cases.length);
}

export function showClasses(app, choose, toggle) {
  refill($("classes"), app.classes.map((one, k) => {
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
    return item;
  }), (item) => choose(Number(item.dataset.value)));
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
  $("case-name").textContent = $("case-name").title = info.name;
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
  $("job").classList.toggle("failed", job.state === "failed");
  $("job").querySelector("span").textContent = job.state === "waiting" ? "waiting" : job.what;
  $("job").querySelector("i").style.width = percent(job.done);
}
