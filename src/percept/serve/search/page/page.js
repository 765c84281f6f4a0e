// The search page: what is asked, the address that holds it, and the answer.

import { $, call, copy, element, icon, many, takeToken, toast } from "./api.js";
import { card, cards, focus, focused, neighbour, reachable } from "./results.js";
import * as viewer from "./viewer.js";

const AT_ONCE = 48, MOST_IMAGES = 4, POLL = 20000;
const TEXTS = ["path", "after", "before", "not"]; // filters that are texts
const empty = () => ({ q: "", like: [], images: [], weight: 0.5, kind: "", score: null, group: true, path: "", after: "", before: "", not: "" });

let asked = empty(), index = null, version = null, running = null, more = false, items = [];
const images = new Map(); // name in the address → {name, data}

// The address

function address() {
  const values = new URLSearchParams();
  if (asked.q) values.set("q", asked.q);
  for (const piece of asked.like) values.append("like", piece);
  for (const id of asked.images) values.append("image", id);
  if (mixed() && asked.weight !== 0.5) values.set("weight", asked.weight);
  if (asked.kind) values.set("type", asked.kind);
  if (asked.score !== null) values.set("score", asked.score);
  if (!asked.group) values.set("group", "no");
  for (const name of TEXTS) if (asked[name]) values.set(name, asked[name]);
  return values.size ? `/?${values}` : "/";
}

function fromAddress() {
  const values = new URLSearchParams(location.search), number = (name, other) => (values.get(name) && Number.isFinite(+values.get(name)) ? +values.get(name) : other);
  asked = { ...empty(), q: values.get("q") ?? "", weight: number("weight", 0.5), kind: values.get("type") ?? "", score: number("score", null), group: values.get("group") !== "no" };
  asked.like = values.getAll("like").map(Number).filter(Number.isSafeInteger);
  asked.images = values.getAll("image").filter(remembered);
  if (values.getAll("image").length > asked.images.length) toast("Drop the image again: it was not kept");
  for (const name of TEXTS) asked[name] = values.get(name) ?? "";
}

function remembered(id) {
  const kept = images.get(id) ?? JSON.parse(sessionStorage.getItem(`image ${id}`) ?? "null");
  if (kept) images.set(id, kept);
  return Boolean(kept);
}

const mixed = () => Boolean(asked.q && (asked.like.length || asked.images.length));
const searching = () => Boolean(asked.q || asked.like.length || asked.images.length);
const filters = () => [asked.kind, asked.score !== null, !asked.group, ...TEXTS.map((name) => asked[name])].filter(Boolean).length;

// The form

function showForm() {
  $("text").value = asked.q;
  $("weight").value = asked.weight;
  $("share").value = `${Math.round(asked.weight * 100)} % text`;
  $("kind").value = asked.kind;
  $("score").value = asked.score ?? -0.01;
  $("least").value = asked.score === null ? "any" : asked.score.toFixed(2);
  $("group").checked = asked.group;
  for (const name of TEXTS) $(name).value = asked[name];
  $("mix").hidden = !mixed();
  $("active").textContent = filters();
  $("active").hidden = $("clear").hidden = !filters();
  showExamples();
}

function showExamples(likes = []) {
  const chip = (source, name, remove) => element("li", {}, source ? element("img", { src: source, alt: name, title: name }) : element("span", { text: name }), element("button", { type: "button", "aria-label": `Remove ${name}`, title: "Remove", onclick: remove }, icon("cross")));
  const known = new Map([...likes, ...items].map((item) => [item.piece, item]));
  $("examples").replaceChildren(
    ...asked.like.map((piece) => chip(known.get(piece)?.thumbnail, known.get(piece)?.name ?? `item ${piece}`, () => go({ like: asked.like.filter((each) => each !== piece) }))),
    ...asked.images.map((id) => chip(images.get(id).data, images.get(id).name, () => go({ images: asked.images.filter((each) => each !== id) }))),
  );
  $("examples").hidden = !$("examples").children.length;
  $("text").placeholder = $("examples").hidden ? "Describe an image, or drop one here" : "like this, but …";
}

function readForm() {
  return {
    q: $("text").value.trim(), weight: +$("weight").value, kind: $("kind").value, group: $("group").checked,
    score: +$("score").value < 0 ? null : +$("score").value, ...Object.fromEntries(TEXTS.map((name) => [name, $(name).value.trim()])),
  };
}

// Searching

function go(changes) {
  asked = { ...asked, ...changes };
  if (address() !== location.pathname + location.search) history.pushState(null, "", address());
  return start();
}

function body(skip) {
  const filter = {};
  if (asked.kind === "image" || asked.kind === "video") filter.kind = asked.kind;
  if (asked.path) filter.path = asked.path.split(",").map((each) => each.trim()).filter(Boolean);
  for (const name of ["after", "before"]) if (asked[name]) filter[name] = asked[name];
  const moments = asked.kind === "moments";
  const grouped = asked.group && !moments && Boolean(asked.q || asked.images.length || asked.not); // similar items: near-duplicates are what is wanted
  return {
    text: asked.q ? [asked.q] : [], like: asked.like, image: asked.images.map((id) => images.get(id).data), weight: asked.weight,
    not_text: asked.not ? [asked.not] : [], top: AT_ONCE, skip, filter, moments, group: grouped ? "duplicate" : null, min_score: asked.score,
  };
}

async function start() {
  showForm();
  running?.abort();
  const mine = (running = new AbortController());
  const slow = setTimeout(() => { $("progress").hidden = false; document.body.classList.add("busy"); }, 120);
  try {
    if (!index) await describe();
    if (searching()) await show(await call("/v1/search", body(0), mine.signal), true);
    else welcome();
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  } finally {
    clearTimeout(slow);
    if (running === mine) {
      $("progress").hidden = true;
      document.body.classList.remove("busy");
    }
  }
}

function show(answer, fresh) {
  if (fresh) window.scrollTo(0, 0);
  items = fresh ? answer.hits : [...items, ...answer.hits];
  more = answer.more;
  version = answer.version;
  fill(answer.hits, fresh);
  if (fresh) showExamples(answer.like);
  const how = answer.exact ? "" : ", approximate";
  title(heading(), `${many(items.length, "result")}${more ? " so far" : ""} of ${many(answer.searched, "item")}, ${Math.max(1, Math.round(answer.milliseconds))} ms${how}`);
  $("unknown").hidden = !answer.unknown_words.length;
  $("unknown").textContent = `The model never saw ${answer.unknown_words.map((word) => `“${word}”`).join(", ")} in training; try other words.`;
  $("changed").hidden = true;
  if (!items.length) message("Nothing found", filters() ? "No item passes the filters." : "The index has nothing to compare with this.", filters() ? ["Clear filters", clear] : null);
}

function heading() {
  const like = asked.like.length + asked.images.length;
  return [asked.q ? `“${asked.q}”` : "", like ? (like === 1 ? "like this image" : "like these images") : "", asked.not ? `without “${asked.not}”` : ""].filter(Boolean).join(", ");
}

function title(text, status) {
  $("title").textContent = text;
  $("status").textContent = status;
  document.title = `${text} – ${index?.name ?? "Search"}`;
}

function fill(hits, fresh) {
  const made = hits.map((hit) => card(hit, { open: viewer.open, similar }));
  if (fresh) $("results").replaceChildren(...made);
  else $("results").append(...made);
  if (fresh) reachable(made[0]);
  $("message").hidden = true;
  $("more").hidden = !more;
}

function welcome() {
  items = index.sample;
  more = false;
  fill(items, true);
  for (const id of ["unknown", "changed"]) $(id).hidden = true;
  const counts = [many(index.images, "image"), index.videos ? many(index.videos, "video") : ""].filter(Boolean).join(" and ");
  title(counts, items.length ? "Describe what you look for, drop an image, or begin with one of these." : "");
  if (!items.length) message("The index is empty", "Add images and videos with percept index FOLDER; they appear here.", ["Look again", reload]);
}

function fail(error) {
  items = [];
  more = false;
  fill([], true);
  title(error.status === 422 ? "This search is not possible" : "That did not work", "");
  message(error.status === 429 ? "The server is busy" : "Error", error.message, ["Try again", start]);
}

function message(head, text, action) {
  const [h, p, button] = $("message").children;
  h.textContent = head;
  p.textContent = text;
  button.hidden = !action;
  if (action) [button.textContent, button.onclick] = [action[0], () => action[1]()];
  $("message").hidden = false;
}

async function loadMore() {
  if (!more || running?.loading) return;
  const mine = running;
  mine.loading = true;
  $("more").textContent = "Loading …";
  try {
    show(await call("/v1/search", body(items.length), mine.signal), false);
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message);
  } finally {
    mine.loading = false;
    $("more").textContent = "Show more";
  }
}

const similar = (hit) => go({ ...empty(), kind: asked.kind, path: asked.path, group: asked.group, like: [hit.piece] }).then(() => focus(cards()[0]));
const clear = () => go({ ...empty(), q: asked.q, like: asked.like, images: asked.images, weight: asked.weight });
const reload = () => { index = null; return start(); };

// The index

async function describe() {
  index = await call("/v1/index");
  version = index.version;
  $("name").textContent = index.name;
  $("about").textContent = `${index.model} · ${many(index.files, "file")}`;
  $("folders").replaceChildren(...index.folders.map((folder) => element("option", { value: folder })));
  for (const option of $("kind").options) option.hidden = !index.videos && option.value !== "";
}

async function watch() {
  if (document.hidden || $("login").open) return;
  try {
    const now = await call("/v1/index");
    $("changed").hidden = now.version === version;
    if (now.version !== version) index = now;
  } catch { /* the next search says what is wrong */ }
}

// Images from outside

async function takeFiles(files) {
  const chosen = [...files].slice(0, MOST_IMAGES);
  if (!chosen.length) return;
  const added = [];
  for (const file of chosen) {
    if (!file.type.startsWith("image/") && file.type) { toast(`${file.name} is not an image`); continue; }
    const data = await new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    }).catch(() => null);
    if (!data) { toast(`${file.name} cannot be read`); continue; }
    const id = Math.random().toString(36).slice(2, 10);
    const kept = { name: file.name || "pasted image", data: data.replace(/^data:[^,]*,/, `data:${file.type || "image/png"};base64,`) };
    images.set(id, kept);
    try { sessionStorage.setItem(`image ${id}`, JSON.stringify(kept)); } catch { /* too large to survive a reload */ }
    added.push(id);
  }
  if (added.length) await go({ ...readForm(), like: [], images: added });
}

// Events

function keys(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const writing = event.target.matches("input:not([type=checkbox]), select, textarea"), here = focused();
  if (event.key === "Escape") {
    if (writing) { event.target.blur(); focus(cards().find((each) => each.querySelector(".shot").tabIndex === 0)); }
    else if (searching()) $("text").focus();
  } else if (event.target === $("text") && event.key === "ArrowDown") {
    event.preventDefault();
    focus(cards()[0]);
  } else if (!writing && event.key === "/") {
    event.preventDefault();
    $("text").focus();
    $("text").select();
  } else if (here) inGrid(event, here);
}

function inGrid(event, here) {
  if (/^(Arrow|Home$|End$)/.test(event.key)) {
    event.preventDefault();
    const next = neighbour(here, event.key);
    if (next) focus(next);
    else if (event.key === "ArrowUp") $("text").focus();
    else if (event.key !== "ArrowLeft") loadMore();
  }
  const known = { s: () => similar(here.hit), c: () => copy(here.hit.path), o: () => window.open(here.querySelector(".shot").href, "_blank", "noopener") };
  known[event.key]?.();
}

function wire() {
  $("search").addEventListener("submit", (event) => { event.preventDefault(); go(readForm()); });
  $("home").addEventListener("click", (event) => { event.preventDefault(); go(empty()); });
  for (const id of ["kind", "group", "score", "weight", "not", "path", "after", "before"]) $(id).addEventListener("change", () => go(readForm()));
  $("weight").addEventListener("input", () => { $("share").value = `${Math.round(+$("weight").value * 100)} % text`; });
  $("score").addEventListener("input", () => { $("least").value = +$("score").value < 0 ? "any" : (+$("score").value).toFixed(2); });
  $("toggle").addEventListener("click", () => toggle($("filters").hidden));
  $("clear").addEventListener("click", clear);
  $("pick").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", async () => { await takeFiles($("file").files); $("file").value = ""; });
  $("again").addEventListener("click", reload);
  $("more").addEventListener("click", loadMore);
  new IntersectionObserver((seen) => { if (seen[0].isIntersecting) loadMore(); }, { rootMargin: "600px" }).observe($("more"));
  document.addEventListener("keydown", keys);
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) { event.preventDefault(); takeFiles(event.clipboardData.files); } });
  window.addEventListener("popstate", () => { $("view").close(); fromAddress(); start(); });
  dropping();
}

function toggle(open) {
  $("filters").hidden = !open;
  $("toggle").setAttribute("aria-expanded", String(open));
}

function dropping() {
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => { if (carries(event)) { event.preventDefault(); $("drop").hidden = false; } });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  document.addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (carries(event)) { event.preventDefault(); takeFiles(event.dataTransfer.files); }
  });
}

takeToken();
viewer.prepare({
  similar,
  closed: (hit) => focus(cards().find((each) => each.hit === hit) ?? focused()),
  beside: (hit, step) => { const place = items.indexOf(hit); return place < 0 ? null : items[place + step]; },
});
wire();
fromAddress();
if (filters()) toggle(true);
start();
setInterval(watch, POLL);
document.addEventListener("visibilitychange", watch);
