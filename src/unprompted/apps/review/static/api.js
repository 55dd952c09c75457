// Requests to the server: token, errors in words.
const KEY = "unprompted-token";
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname);
}
let asking = null;

export class Refused extends Error {
  constructor(status, answer) {
    super(answer.error || `the server answered ${status}`);
    this.status = status;
    this.state = answer.state;
  }
}

function askForToken(wrong) {
  if (asking) return asking;
  const dialog = document.getElementById("token");
  const field = document.getElementById("token-value");
  if (wrong) document.getElementById("token-note").textContent = "That token is not the one of this server.";
  field.value = "";
  dialog.showModal();
  asking = new Promise((resolve) => dialog.addEventListener("close", () => {
    sessionStorage.setItem(KEY, field.value);
    asking = null;
    resolve();
  }, { once: true }));
  return asking;
}

async function ask(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = { "X-Requested-With": "review", ...options.headers };
    if (token) headers.Authorization = `Bearer ${token}`;
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, { error: "the server does not answer; what was saved is safe, what was not is still here" });
    }
    if (answer.ok) return answer;
    const content = await answer.json().catch(() => ({}));
    if (answer.status !== 401) throw new Refused(answer.status, content);
    await askForToken(Boolean(token));
  }
}

export const json = async (path, options) => (await ask(path, options)).json();
export const bytes = async (path, options) => (await ask(path, options)).arrayBuffer();
export const post = (path, content, version) => json(path, {
  method: "POST",
  headers: { "Content-Type": "application/json", ...(version === undefined ? {} : { "If-Match": `"${version}"` }) },
  body: JSON.stringify(content ?? {}),
});
export const put = (path, content, version) => json(path, {
  method: "PUT",
  headers: { "Content-Type": "application/octet-stream", "If-Match": `"${version}"` },
  body: content,
});
