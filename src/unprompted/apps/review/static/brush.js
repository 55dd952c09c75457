// Brush and eraser on one slice, with a way back.
const MOST = 60;

// Height and width of a voxel of the slice, the smaller one is 1.
export function aspectOf(info) {
  const [, tall, wide] = info.spacing, least = Math.min(tall, wide);
  return [tall / least, wide / least];
}

export class Brush {
  constructor() { this.clear(); }

  clear() { this.done = []; this.undone = []; this.stroke = null; }

  begin(slice, labels) {
    this.stroke = { slice, before: labels.slice() };
    this.last = null;
  }

  // Paint a disc along the way from the last point; it is round on the screen, its size in the smaller voxels.
  paint(labels, info, row, col, size, value) {
    const aspect = aspectOf(info), from = this.last || { row, col };
    const way = Math.hypot((row - from.row) * aspect[0], (col - from.col) * aspect[1]), steps = Math.max(1, Math.ceil(way / Math.max(0.5, size / 4)));
    for (let s = 1; s <= steps; s++) {
      const r = from.row + ((row - from.row) * s) / steps, c = from.col + ((col - from.col) * s) / steps;
      this.disc(labels, info, r, c, size / 2, value, aspect);
    }
    this.last = { row, col };
  }

  disc(labels, info, row, col, radius, value, [tall, wide]) {
    const [, height, width] = info.shape, down = Math.max(radius / tall, 0.5), across = Math.max(radius / wide, 0.5);
    for (let r = Math.max(0, Math.floor(row - down)); r <= Math.min(height - 1, Math.floor(row + down)); r++) {
      for (let c = Math.max(0, Math.floor(col - across)); c <= Math.min(width - 1, Math.floor(col + across)); c++) {
        const away = ((r + 0.5 - row) * tall) ** 2 + ((c + 0.5 - col) * wide) ** 2;
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
