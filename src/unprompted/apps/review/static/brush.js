// Brush and eraser on one slice, with a way back.
const MOST = 60;

export class Brush {
  constructor() { this.clear(); }

  clear() { this.done = []; this.undone = []; this.stroke = null; }

  begin(slice, labels) {
    this.stroke = { slice, before: labels.slice() };
    this.last = null;
  }

  // Paint a disc of a diameter in voxels along the way from the last point.
  paint(labels, width, height, row, col, size, value) {
    const from = this.last || { row, col }, steps = Math.max(1, Math.ceil(Math.hypot(row - from.row, col - from.col) / Math.max(0.5, size / 4)));
    for (let s = 1; s <= steps; s++) {
      const r = from.row + ((row - from.row) * s) / steps, c = from.col + ((col - from.col) * s) / steps;
      this.disc(labels, width, height, r, c, size / 2, value);
    }
    this.last = { row, col };
  }

  disc(labels, width, height, row, col, radius, value) {
    const reach = Math.max(radius, 0.5);
    for (let r = Math.max(0, Math.floor(row - reach)); r <= Math.min(height - 1, Math.floor(row + reach)); r++) {
      for (let c = Math.max(0, Math.floor(col - reach)); c <= Math.min(width - 1, Math.floor(col + reach)); c++) {
        const away = (r + 0.5 - row) ** 2 + (c + 0.5 - col) ** 2;
        if (away <= radius * radius || (r === Math.floor(row) && c === Math.floor(col))) labels[r * width + c] = value;
      }
    }
  }

  // Whether the stroke changed anything.
  end(labels) {
    const { stroke } = this;
    this.stroke = null;
    if (!stroke || !labels.some((v, i) => v !== stroke.before[i])) return false;
    this.done.push(stroke);
    if (this.done.length > MOST) this.done.shift();
    this.undone = [];
    return true;
  }

  step(from, to, labels) {
    const stroke = from.pop();
    if (!stroke) return null;
    to.push({ slice: stroke.slice, before: labels[stroke.slice].slice() });
    labels[stroke.slice] = stroke.before;
    return stroke.slice;
  }

  undo(labels) { return this.step(this.done, this.undone, labels); }
  redo(labels) { return this.step(this.undone, this.done, labels); }
}
