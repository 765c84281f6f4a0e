// Requests to the server, with its token; and small helpers for elements.

const KEY = "percept-token";
export const $ = (id) => document.getElementById(id);

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The token may come in the address after #, which is never sent to a server.
export function takeToken() {
  const match = /(?:^#|&)token=([^&]+)/.exec(location.hash);
  if (!match) return;
  sessionStorage.setItem(KEY, decodeURIComponent(match[1]));
  history.replaceState(history.state, "", location.pathname + location.search);
}

let asking = null;
function askToken(again) {
  asking ??= new Promise((resolve) => {
    $("wrong").hidden = !again;
    $("token").value = "";
    $("login").showModal();
    $("login-form").onsubmit = () => {
      sessionStorage.setItem(KEY, $("token").value.trim());
      asking = null;
      resolve();
    };
  });
  return asking;
}

export async function call(path, body, signal) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const options = body ? { method: "POST", body: JSON.stringify(body), headers: { ...headers, "Content-Type": "application/json" } } : { headers };
    let response;
    try {
      response = await fetch(path, { ...options, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "The server does not answer. Is it still running?");
    }
    if (response.status === 401) {
      await askToken(token !== null);
      continue;
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refused(response.status, answer.error?.message ?? `The server answered with status ${response.status}.`);
    return answer;
  }
}

// element("p", {class: "note", text: "…"}, child, child)
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter(Boolean));
  return made;
}

const PATHS = {
  similar: "M4 8.5h9v9H4zM11 8.5v-4h9v9h-4",
  copy: "M8 8h12v12H8zM5 16H4V4h12v1",
  play: "M8 5v14l11-7z",
  cross: "M6 6l12 12M18 6 6 18",
};
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon ${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const rest = Math.floor((tenths % 600) / 10);
  const minutes = Math.floor(tenths / 600);
  const start = minutes >= 60 ? `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}` : `${minutes}`;
  return `${start}:${String(rest).padStart(2, "0")}${tenths % 10 ? `.${tenths % 10}` : ""}`;
}

export const score = (value) => value.toFixed(3).replace("-", "−");
export const many = (count, one, several = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : several}`;

let fading;
export function toast(message) {
  $("toast").textContent = message;
  $("toast").hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { $("toast").hidden = true; }, 2500);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // only secure addresses have a clipboard
    const area = element("textarea", { class: "hidden" });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast("Path copied");
}

// #t makes a player begin at the span.
export const fileAddress = (hit) => hit.file + (hit.start !== null && hit.start !== undefined ? `#t=${hit.start.toFixed(2)},${hit.stop.toFixed(2)}` : "");
