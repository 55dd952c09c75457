// Corrections teach: cases are segmented again, and the page shows what changed.
import { json, post, Refused } from "./api.js";
import { $, note, showJob } from "./panels.js";
import { save } from "./saving.js";

export async function teach(app, all = false) {
  if (app.working || !app.teaches || !(all || app.info) || !(await save(app))) return;
  app.working = true;
  let failed = null;
  $("segment").disabled = $("segment-all").disabled = true;
  try {
    const { job } = await post(all ? "/api/segment" : `/api/cases/${app.info.id}/segment`);
    const results = await followJob(app, job);
    const overview = await json("/api/review");
    app.cases = overview.cases;
    const mine = results.find((one) => one.case === app.info?.id);
    if (mine) await taught(app, mine);
    else app.refresh();
    if (all) note(`${results.length} cases segmented again`);
  } catch (error) {
    failed = { state: "failed", what: `Not segmented again: ${error.message}`, done: 0 };
  } finally {
    app.working = false;
    $("segment").disabled = $("segment-all").disabled = false;
    showJob(failed); // stays until it is tried again
  }
}

async function followJob(app, id) {
  for (;;) {
    const job = await json(`/api/jobs/${id}`);
    showJob(job);
    if (job.state === "done") return job.result;
    if (job.state === "failed") throw new Refused(0, { error: job.error });
    await new Promise((done) => setTimeout(done, 250));
  }
}

async function taught(app, change) {
  const { id } = app.info;
  const info = await json(`/api/cases/${id}`); // before the labels: these may be newer, never older
  await app.volume.reload(true);
  if (app.info.id !== id) return;
  Object.assign(app.info, info);
  app.change = change;
  app.plot.open(app.info);
  app.brush.clear();
  app.refresh();
  advise(app);
}

export async function advise(app) {
  const found = await json("/api/suggest");
  app.suggestions = found;
  app.advice = found.find((one) => one.case === app.info?.id)?.slice ?? null;
  app.repaint(false, true);
}

// To the slice most worth correcting: of this case, else of the worst one that is open.
export async function follow(app) {
  await advise(app);
  const here = app.suggestions.find((one) => one.case === app.info?.id), best = here ?? app.suggestions[0];
  if (!best) { note("Every case is accepted or rejected"); return; }
  if (!here) await app.open(best.case);
  app.go(best.slice);
}
