// The keyboard: one table, used by the page and by its help.
import { $, make } from "./panels.js";

export function bind(app) {
  const keys = [
    [["ArrowUp", "k"], "↑", "slice up", () => app.go(app.cross[0] + 1)],
    [["ArrowDown", "j"], "↓", "slice down", () => app.go(app.cross[0] - 1)],
    [["PageUp"], "PgUp", "ten slices up", () => app.go(app.cross[0] + 10)],
    [["PageDown"], "PgDn", "ten slices down", () => app.go(app.cross[0] - 10)],
    [["n", "ArrowRight"], "N", "next case", () => app.next(1)],
    [["p", "ArrowLeft"], "P", "previous case", () => app.next(-1)],
    [["g"], "G", "next worth correcting", () => app.follow()],
    [["h"], "H", "masks on or off", () => app.toggleMasks()],
    [["w"], "W", "next window", () => app.nextWindow()],
    [["f"], "F", "fit to the window", () => app.fit()],
    [["v"], "V", "look around", () => app.take("look")],
    [["b"], "B", "brush", () => app.take("brush")],
    [["e"], "E", "eraser", () => app.take("erase")],
    [[","], ",", "class before", () => app.nextClass(-1)],
    [["."], ".", "next class", () => app.nextClass(1)],
    [["x"], "X", "this class on or off", () => app.toggleClass(app.active)],
    [["["], "[", "smaller brush", () => app.resize(-1)],
    [["]"], "]", "larger brush", () => app.resize(1)],
    [["z"], "Z", "undo", () => app.undo()],
    [["y", "Z"], "Y", "redo", () => app.redo()],
    [["s"], "S", "save", () => app.save()],
    [["t"], "T", "segment again", () => app.teach()],
    [["a"], "A", "accept", () => app.decide("accepted")],
    [["r"], "R", "reject", () => app.decide("rejected")],
    [["?"], "?", "these keys", () => $("keys").showModal()],
  ];
  $("key-list").replaceChildren(...[...keys.map(([, shown, text]) => [shown, text]), ["1 … 9", "class"], ["hold C", "masks before"], ["Ctrl wheel", "zoom"], ["Shift drag", "move the picture"], ["right drag", "brightness, contrast"]].flatMap(([shown, text]) => {
    const term = make("dt");
    term.append(make("kbd", "", shown));
    return [term, make("dd", "", text)];
  }));
  addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=range])") || document.querySelector("dialog[open]");
    if (typing || event.altKey) return;
    if (event.target.matches("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    if (event.ctrlKey || event.metaKey) {
      const act = { s: () => app.save(), z: () => app.undo(), y: () => app.redo() }[event.key];
      if (act) { event.preventDefault(); act(); }
      return;
    }
    if (event.key === "c") { app.comparing = true; app.repaint(false); return; }
    if (/^[1-9]$/.test(event.key) && app.classes[event.key - 1]) { app.choose(app.classes[event.key - 1].value); return; }
    const found = keys.find(([names]) => names.includes(event.key));
    if (found) { event.preventDefault(); found[3](); }
  });
  addEventListener("keyup", (event) => { if (event.key === "c") { app.comparing = false; app.repaint(false); } });
}
