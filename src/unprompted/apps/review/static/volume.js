// The voxels of one case in the browser: fetched from where the reader is outwards, before they are needed.
import { bytes } from "./api.js";

const KINDS = { uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array };
const CHUNK = 4 << 20; // bytes of one request
const BUDGET = 1 << 30; // bytes held at once
const AT_ONCE = 3;

export class Volume {
  constructor(info, arrived) {
    this.info = info;
    [this.depth, this.height, this.width] = info.shape;
    this.channels = info.channels;
    this.arrived = arrived;
    this.images = new Array(this.depth).fill(null);
    this.labels = new Array(this.depth).fill(null);
    this.before = null;
    this.dirty = new Set();
    this.base = new Map(); // slice to the version that its correction began from
    this.pixels = this.height * this.width;
    this.bytes = this.pixels * (this.channels * KINDS[info.dtype].BYTES_PER_ELEMENT + KINDS[info.label_dtype].BYTES_PER_ELEMENT);
    this.rows = Math.max(1, Math.min(this.depth, Math.floor(CHUNK / this.bytes)));
    this.chunks = Array.from({ length: Math.ceil(this.depth / this.rows) }, () => "absent");
    this.running = 0;
    this.centre = 0;
    this.abort = new AbortController();
    this.trouble = null; // why the last slices did not come
  }

  close() { this.abort.abort(); }

  // Fetch one slice alone, so that it is on the screen before its neighbours are asked for.
  async open(slice) {
    this.centre = slice;
    this.running = AT_ONCE;
    try {
      await this.receive(slice, 1);
      if (this.rows === 1) this.chunks[slice] = "here";
      this.arrived(slice, 1);
    } finally {
      this.running = 0;
      this.around(this.centre);
    }
  }

  // Fetch what is missing, nearest to a slice first.
  around(slice) {
    this.centre = slice;
    const most = Math.max(3, Math.floor(BUDGET / (this.bytes * this.rows)));
    while (this.running < AT_ONCE) {
      const at = this.nearest("absent");
      if (at < 0) return;
      if (this.chunks.filter((c) => c !== "absent").length >= most && !this.makeRoom(at)) return;
      this.fetch(at);
    }
  }

  distance(chunk) {
    const first = chunk * this.rows;
    return Math.max(first - this.centre, this.centre - Math.min(first + this.rows, this.depth) + 1, 0);
  }

  nearest(state) {
    let best = -1;
    this.chunks.forEach((c, n) => { if (c === state && (best < 0 || this.distance(n) < this.distance(best))) best = n; });
    return best;
  }

  makeRoom(wanted) {
    let far = -1;
    this.chunks.forEach((c, n) => {
      if (c === "here" && !this.isDirty(n) && (far < 0 || this.distance(n) > this.distance(far))) far = n;
    });
    if (far < 0 || this.distance(far) <= this.distance(wanted)) return false;
    for (let s = far * this.rows; s < Math.min((far + 1) * this.rows, this.depth); s++) this.images[s] = this.labels[s] = null;
    this.chunks[far] = "absent";
    return true;
  }

  isDirty(chunk) {
    for (let s = chunk * this.rows; s < (chunk + 1) * this.rows; s++) if (this.dirty.has(s)) return true;
    return false;
  }

  async fetch(chunk) {
    const first = chunk * this.rows, count = Math.min(this.rows, this.depth - first);
    this.chunks[chunk] = "coming";
    this.running++;
    try {
      await this.receive(first, count);
      this.chunks[chunk] = "here";
      this.arrived(first, count);
    } catch (error) {
      this.chunks[chunk] = "absent";
      if (error.name === "AbortError") return;
      this.trouble = error.message;
      this.arrived(first, 0);
      setTimeout(() => this.around(this.centre), 2000);
      return;
    } finally {
      this.running--;
    }
    this.around(this.centre);
  }

  async receive(first, count) {
    const [image, labels] = await Promise.all([
      bytes(this.path("image", first, count), { signal: this.abort.signal }), this.labelsOf(first, count),
    ]);
    this.trouble = null;
    const voxels = new KINDS[this.info.dtype](image), size = this.pixels * this.channels;
    for (let s = 0; s < count; s++) {
      this.images[first + s] ??= voxels.subarray(s * size, (s + 1) * size);
      this.labels[first + s] ??= labels[s]; // what is here may be under the brush
    }
  }

  path(what, first, count) { return `/api/cases/${this.info.id}/${what}/${first}/${count}`; }

  async labelsOf(first, count) {
    const raw = new KINDS[this.info.label_dtype](await bytes(this.path("labels", first, count), { signal: this.abort.signal }));
    return Array.from({ length: count }, (_, s) => raw.slice(s * this.pixels, (s + 1) * this.pixels));
  }

  // Labels as they are saved now; those not saved yet stay. What was shown so far becomes "before".
  async reload(keep) {
    const first = this.labels.findIndex(Boolean);
    if (keep) this.before = this.labels.map((slice) => slice && slice.slice());
    if (first < 0) return;
    for (let chunk = 0; chunk < this.chunks.length; chunk++) {
      const from = chunk * this.rows, count = Math.min(this.rows, this.depth - from);
      if (!this.labels.slice(from, from + count).some(Boolean)) continue;
      const fresh = await this.labelsOf(from, count);
      for (let s = 0; s < count; s++) if (this.labels[from + s] && !this.dirty.has(from + s)) this.labels[from + s] = fresh[s];
    }
  }

  stored(d, h, w) {
    const slice = this.images[d];
    if (!slice) return null;
    if (this.channels === 3) return Array.from(slice.subarray((h * this.width + w) * 3, (h * this.width + w) * 3 + 3));
    return slice[h * this.width + w] * this.info.slope + this.info.offset;
  }
}
