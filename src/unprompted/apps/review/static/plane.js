// One plane through a volume: which axis it fixes, how it lies on the screen, and its pictures.
const OPPOSITE = { R: "L", L: "R", A: "P", P: "A", S: "I", I: "S" };
const UPRIGHT = "SI", DEEP = "AP";

export function planesOf(info) {
  const d = info.directions;
  const plane = (fixed, row, col) => {
    // Head, else front, lies on top; the patient's right, else front, on the left.
    const flipRow = Boolean(d) && "SA".includes(d[row]), flipCol = Boolean(d) && "RA".includes(d[col]);
    const edge = (axis, flip) => (!d ? ["", ""] : flip ? [d[axis], OPPOSITE[d[axis]]] : [OPPOSITE[d[axis]], d[axis]]);
    const [north, south] = edge(row, flipRow), [west, east] = edge(col, flipCol);
    return { fixed, row, col, flipRow, flipCol, edges: { n: north, s: south, w: west, e: east } };
  };
  const upright = (a, b) => {
    if (!d) return [a, b];
    if (UPRIGHT.includes(d[a])) return [a, b];
    if (UPRIGHT.includes(d[b])) return [b, a];
    return DEEP.includes(d[a]) ? [a, b] : [b, a];
  };
  const main = plane(0, 1, 2);
  main.flipRow = main.flipCol = false;
  if (d) main.edges = { n: OPPOSITE[d[1]], s: d[1], w: OPPOSITE[d[2]], e: d[2] };
  return [main, plane(1, ...upright(0, 2)), plane(2, ...upright(0, 1))];
}

export function nameOf(plane, info) {
  if (!info.directions) return plane.fixed === 0 ? "" : plane.fixed === 1 ? "across rows" : "across columns";
  const letter = info.directions[plane.fixed];
  return "SI".includes(letter) ? "axial" : "AP".includes(letter) ? "coronal" : "sagittal";
}

// Row-major values of a plane: visit(offset of the target pixel, slice, index inside the slice).
function visit(volume, plane, at, each) {
  const [depth, height, width] = volume.info.shape;
  if (plane.fixed === 0) return;
  const columns = volume.info.shape[plane.col];
  for (let d = 0; d < depth; d++) {
    for (let i = 0, n = plane.fixed === 1 ? width : height; i < n; i++) {
      const index = plane.fixed === 1 ? at * width + i : i * width + at;
      const [r, c] = plane.row === 0 ? [d, i] : [i, d];
      each(r * columns + c, d, index);
    }
  }
}

export class Picture {
  constructor() {
    this.image = document.createElement("canvas");
    this.mask = document.createElement("canvas");
    this.outlines = [];
  }

  resize(rows, cols) {
    for (const canvas of [this.image, this.mask]) { canvas.width = cols; canvas.height = rows; }
    this.imageData = new ImageData(cols, rows);
    this.maskData = new ImageData(cols, rows);
    this.values = new Uint16Array(rows * cols);
    this.rows = rows;
    this.cols = cols;
  }

  drawImage(volume, plane, at, table) {
    const out = new Uint32Array(this.imageData.data.buffer), { channels } = volume;
    const colour = (slice, i) => (0xff << 24) | (table.of(slice[3 * i + 2]) << 16) | (table.of(slice[3 * i + 1]) << 8) | table.of(slice[3 * i]);
    if (plane.fixed === 0) {
      const slice = volume.images[at];
      if (!slice) return false;
      if (channels === 3) for (let i = 0; i < out.length; i++) out[i] = colour(slice, i);
      else for (let i = 0; i < out.length; i++) out[i] = table.grey[slice[i] - table.least];
    } else {
      out.fill(0xff000000);
      visit(volume, plane, at, (target, d, i) => {
        const slice = volume.images[d];
        if (slice) out[target] = channels === 3 ? colour(slice, i) : table.grey[slice[i] - table.least];
      });
    }
    this.image.getContext("2d").putImageData(this.imageData, 0, 0);
    return true;
  }

  drawMask(volume, plane, at, labels, style) {
    const { values } = this;
    values.fill(0);
    if (plane.fixed === 0) { if (labels[at]) values.set(labels[at]); }
    else visit(volume, plane, at, (target, d, i) => { if (labels[d]) values[target] = labels[d][i]; });
    const out = new Uint32Array(this.maskData.data.buffer);
    for (let i = 0; i < out.length; i++) {
      if (values[i] && style.hidden.has(values[i])) values[i] = 0;
      out[i] = style.colours[values[i]] || 0;
    }
    this.mask.getContext("2d").putImageData(this.maskData, 0, 0);
    this.outlines = this.trace();
  }

  // The borders of every label as lines between pixels: crisp at any zoom.
  trace() {
    const { values, rows, cols } = this, paths = new Map();
    const line = (value, x0, y0, x1, y1) => {
      if (!value) return;
      if (!paths.has(value)) paths.set(value, new Path2D());
      const path = paths.get(value);
      path.moveTo(x0, y0);
      path.lineTo(x1, y1);
    };
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < cols; c++) {
        const here = values[r * cols + c];
        const right = c + 1 < cols ? values[r * cols + c + 1] : 0;
        const below = r + 1 < rows ? values[(r + 1) * cols + c] : 0;
        if (here !== right) { line(here, c + 1, r, c + 1, r + 1); line(right, c + 1, r, c + 1, r + 1); }
        if (here !== below) { line(here, c, r + 1, c + 1, r + 1); line(below, c, r + 1, c + 1, r + 1); }
      }
    }
    return [...paths];
  }
}

// Stored steps to grey for a window in stored units.
export function greyTable(info, low, high) {
  const [least, size] = info.dtype === "int16" ? [-32768, 65536] : [0, 256];
  const grey = new Uint32Array(size);
  const level = (v) => Math.max(0, Math.min(255, Math.round((255 * (v * info.slope + info.offset - low)) / Math.max(high - low, 1e-9))));
  for (let i = 0; i < size; i++) {
    const g = level(i + least);
    grey[i] = (0xff << 24) | (g << 16) | (g << 8) | g;
  }
  return { least, grey, of: (v) => grey[v - least] & 0xff };
}
