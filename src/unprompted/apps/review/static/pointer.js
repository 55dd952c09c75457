// The mouse and the pen on the three planes.
export function listen(app, pane) {
  const { canvas } = pane;
  let drag = null;
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) { pane.zoomAt(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX, event.clientY); app.repaint(false); return; }
    app.step(pane.plane.fixed, event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    if (!app.volume) return;
    canvas.setPointerCapture(event.pointerId);
    if (pane.main) canvas.focus({ preventScroll: true });
    if (event.button === 2) drag = { kind: "window", x: event.clientX, y: event.clientY, ...app.window };
    else if (event.button === 1 || event.shiftKey) drag = { kind: "pan", x: event.clientX, y: event.clientY, shift: pane.shift };
    else if (pane.main && app.tool !== "look") drag = app.beginStroke() ? { kind: "paint" } : null;
    else drag = { kind: "cross" };
    move(event);
  });
  const move = (event) => {
    pane.pointer = [event.clientX, event.clientY];
    const moves = { window: windowed, pan: panned, paint: painted, cross: crossed };
    if (drag) moves[drag.kind](event);
    app.hover(pane);
    if (pane.main && app.tool !== "look" && !drag) app.repaint(false, true);
  };
  const windowed = (event) => {
    const step = Math.max(drag.high - drag.low, 1e-6) / 300;
    const centre = (drag.low + drag.high) / 2 + (event.clientY - drag.y) * step;
    const half = Math.max(((drag.high - drag.low) / 2) * Math.exp((event.clientX - drag.x) / 200), 1e-6);
    app.setWindow({ low: centre - half, high: centre + half });
  };
  const panned = (event) => {
    pane.shift = [drag.shift[0] + event.clientX - drag.x, drag.shift[1] + event.clientY - drag.y];
    app.repaint(false, true);
  };
  const painted = (event) => {
    for (const one of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) app.paint(pane.voxelAt(one.clientX, one.clientY, true));
  };
  const crossed = (event) => {
    const voxel = pane.voxelAt(event.clientX, event.clientY), next = [...app.cross];
    next[pane.plane.row] = voxel.row;
    next[pane.plane.col] = voxel.col;
    app.moveCross(next);
  };
  canvas.addEventListener("pointermove", move);
  const end = () => { if (drag?.kind === "paint") app.endStroke(); drag = null; };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => { pane.pointer = null; app.hover(null); app.repaint(false, true); });
}
