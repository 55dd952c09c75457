// What the reader corrected and decided goes to the server; nothing another tab wrote is lost.
import { post, put, Refused } from "./api.js";
import { $, fail, note } from "./panels.js";

// Save every slice that was corrected; whether all are saved.
export async function save(app) {
  for (const slice of [...app.dirty].sort((a, b) => a - b)) if (!(await saveSlice(app, slice))) return false;
  return true;
}

async function saveSlice(app, slice) {
  const { info, volume } = app, content = volume.labels[slice].slice();
  if (versionOf(info, slice) !== volume.base.get(slice)) return settle(app, slice);
  try {
    Object.assign(info, await put(`/api/cases/${info.id}/slices/${slice}`, content, info.version));
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 412) { fail(error); return false; }
    // Another tab wrote to this case: only the same slice is a question for the reader.
    Object.assign(info, error.state);
    await volume.reload(false);
    adopt(app, info);
    return saveSlice(app, slice);
  }
  if (volume.labels[slice].every((value, i) => value === content[i])) volume.dirty.delete(slice);
  volume.base.set(slice, versionOf(info, slice));
  adopt(app, info);
  note(info.axis === "t" ? `Frame ${slice + 1} saved` : `Slice ${slice + 1} saved`);
  return true;
}

export const versionOf = (info, slice) => info.slices[slice] ?? 0;

// Two corrections of one slice: the reader says which one stays.
async function settle(app, slice) {
  const { info, volume } = app, dialog = $("conflict");
  $("conflict-slice").textContent = slice + 1;
  dialog.showModal();
  const keep = await new Promise((done) => {
    $("keep-mine").onclick = () => done(true);
    $("take-theirs").onclick = () => done(false);
    dialog.oncancel = (event) => event.preventDefault();
  });
  dialog.close();
  volume.base.set(slice, versionOf(info, slice));
  if (keep) return saveSlice(app, slice);
  volume.dirty.delete(slice);
  app.brush.clear();
  await volume.reload(false);
  adopt(app, info);
  return true;
}

function adopt(app, state) {
  const known = app.cases.find((one) => one.id === app.info.id);
  for (const name of ["version", "status", "slices"]) known[name] = state[name];
  app.refresh();
}

export async function decide(app, status) {
  if (!app.info || !(await save(app))) return;
  const { info } = app;
  try {
    Object.assign(info, await post(`/api/cases/${info.id}/status`, { status: info.status === status ? "open" : status }, info.version));
  } catch (error) {
    if (error.status !== 412) { fail(error); return; }
    Object.assign(info, error.state);
    note("This case was changed elsewhere; look at it and decide again", true);
    await app.volume.reload(false);
  }
  adopt(app, info);
  const open = app.cases.findIndex((one, n) => one.status === "open" && n > app.cases.findIndex((c) => c.id === info.id));
  if (info.status !== "open" && open >= 0) app.open(app.cases[open].id).catch(fail);
}
