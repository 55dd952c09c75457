// A plane on the screen: picture, masks, cross hair; and where the pointer is in the volume.
import { aspectOf } from "./brush.js";
import { Picture } from "./plane.js";

export class Pane {
  constructor(element, main) {
    this.element = element;
    this.canvas = element.querySelector("canvas");
    this.note = element.querySelector("output");
    this.main = main;
    this.picture = new Picture();
    this.zoom = 1;
    this.shift = [0, 0];
    this.stale = { image: true, mask: true };
    this.pointer = null;
  }

  open(volume, plane) {
    Object.assign(this, { volume, plane, zoom: 1, shift: [0, 0], painted: false });
    this.picture.resize(volume.info.shape[plane.row], volume.info.shape[plane.col]);
    for (const side of "nswe") this.element.querySelector(`.edge.${side}`).textContent = plane.edges[side];
    this.touch();
  }

  touch(image = true) { this.stale.image ||= image; this.stale.mask = true; }

  // Screen pixels of a voxel, and of the corner of the picture.
  layout() {
    const ratio = devicePixelRatio, { canvas, plane, volume } = this;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const tall = this.picture.rows * volume.info.spacing[plane.row], wide = this.picture.cols * volume.info.spacing[plane.col];
    const fit = Math.min((width * 0.96) / wide, (height * 0.94) / tall) * this.zoom;
    const x = fit * volume.info.spacing[plane.col], y = fit * volume.info.spacing[plane.row];
    return { width, height, x, y, ratio, left: (width - x * this.picture.cols) / 2 + this.shift[0] * ratio, top: (height - y * this.picture.rows) / 2 + this.shift[1] * ratio };
  }

  draw(app) {
    const { volume, plane, picture } = this;
    if (!volume || !this.canvas.clientWidth) return;
    const at = app.cross[plane.fixed];
    if (this.stale.image || this.drawnAt !== at) {
      const drawn = picture.drawImage(volume, plane, at, app.table);
      this.stale.image = !drawn;
      this.painted ||= drawn;
      this.stale.mask = true;
    }
    if (this.stale.mask) picture.drawMask(volume, plane, at, app.comparing && volume.before ? volume.before : volume.labels, app.style);
    this.stale.mask = false;
    this.drawnAt = at;
    this.compose(app);
  }

  compose(app) {
    const at = this.layout(), context = this.canvas.getContext("2d"), { picture, plane } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, at.width, at.height);
    context.setTransform(
      plane.flipCol ? -at.x : at.x, 0, 0, plane.flipRow ? -at.y : at.y,
      at.left + (plane.flipCol ? at.x * picture.cols : 0), at.top + (plane.flipRow ? at.y * picture.rows : 0),
    );
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture.image, 0, 0);
    if (app.style.shown) {
      context.imageSmoothingEnabled = false;
      context.globalAlpha = app.style.opacity;
      context.drawImage(picture.mask, 0, 0);
      context.globalAlpha = 1;
      this.outline(context, at, app);
    }
    this.cross(context, at, app);
    if (this.main && this.pointer && app.tool !== "look") this.ring(context, at, app);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  outline(context, at, app) {
    const transform = context.getTransform();
    for (const [value, path] of this.picture.outlines) {
      const scaled = new Path2D();
      scaled.addPath(path, transform);
      context.save();
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.lineCap = "round";
      context.lineWidth = (value === app.active && this.main ? 2 : 1.4) * at.ratio;
      context.strokeStyle = app.style.css[value];
      context.stroke(scaled);
      context.restore();
    }
  }

  cross(context, at, app) {
    const { plane, picture } = this;
    const row = app.cross[plane.row] + 0.5, col = app.cross[plane.col] + 0.5;
    const transform = context.getTransform();
    const point = (x, y) => transform.transformPoint(new DOMPoint(x, y));
    const centre = point(col, row), from = point(0, 0), to = point(picture.cols, picture.rows);
    const [left, right] = [Math.min(from.x, to.x), Math.max(from.x, to.x)], [top, bottom] = [Math.min(from.y, to.y), Math.max(from.y, to.y)];
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.lineWidth = at.ratio;
    const gap = this.main ? 9 * at.ratio : 0;
    const stroke = (x0, y0, x1, y1, colour) => { context.strokeStyle = colour; context.beginPath(); context.moveTo(x0, y0); context.lineTo(x1, y1); context.stroke(); };
    if (!this.main || (app.tool === "look" && !app.flat)) {
      const faint = "rgba(160,176,196,.38)", strong = "rgba(86,180,233,.9)";
      const slices = (axis) => (axis === 0 ? strong : faint);
      stroke(left, centre.y, centre.x - gap, centre.y, slices(plane.row));
      stroke(centre.x + gap, centre.y, right, centre.y, slices(plane.row));
      stroke(centre.x, top, centre.x, centre.y - gap, slices(plane.col));
      stroke(centre.x, centre.y + gap, centre.x, bottom, slices(plane.col));
    }
    context.restore();
  }

  ring(context, at, app) {
    const voxel = this.voxelAt(...this.pointer, true);
    context.save();
    context.translate(voxel.col, voxel.row);
    const path = new Path2D(), [tall, wide] = aspectOf(app.info);
    path.ellipse(0, 0, app.size / 2 / wide, app.size / 2 / tall, 0, 0, 2 * Math.PI);
    const scaled = new Path2D();
    scaled.addPath(path, context.getTransform());
    context.restore();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.lineWidth = 3 * at.ratio;
    context.strokeStyle = "rgba(0,0,0,.5)";
    context.stroke(scaled);
    context.lineWidth = 1.5 * at.ratio;
    context.strokeStyle = "#ffffff";
    if (app.tool === "erase") context.setLineDash([4 * at.ratio, 4 * at.ratio]);
    context.stroke(scaled);
    context.setLineDash([]);
  }

  // Row and column of the picture under a point of the page.
  voxelAt(x, y, exact = false) {
    const at = this.layout(), box = this.canvas.getBoundingClientRect(), { plane, picture } = this;
    let col = ((x - box.left) * at.ratio - at.left) / at.x, row = ((y - box.top) * at.ratio - at.top) / at.y;
    if (plane.flipCol) col = picture.cols - col;
    if (plane.flipRow) row = picture.rows - row;
    if (exact) return { row, col };
    const inside = row >= 0 && col >= 0 && row < picture.rows && col < picture.cols;
    return { row: Math.max(0, Math.min(picture.rows - 1, Math.floor(row))), col: Math.max(0, Math.min(picture.cols - 1, Math.floor(col))), inside };
  }

  zoomAt(factor, x, y) {
    const box = this.canvas.getBoundingClientRect();
    const next = Math.max(1, Math.min(24, this.zoom * factor)), real = next / this.zoom;
    const from = [x - box.left - box.width / 2, y - box.top - box.height / 2];
    this.shift = next === 1 ? [0, 0] : this.shift.map((s, i) => from[i] - (from[i] - s) * real);
    this.zoom = next;
  }
}
