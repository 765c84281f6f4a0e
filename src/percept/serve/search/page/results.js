// The grid of results, and moving in it with the keyboard.

import { $, clock, copy, element, fileAddress, icon, score } from "./api.js";

const TALL = 0.62, WIDE = 2.2; // shapes beyond are cropped in the grid

export function card(hit, actions) {
  const ratio = Math.min(WIDE, Math.max(TALL, hit.width / hit.height));
  const image = element("img", { src: hit.thumbnail, alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(element("span", { class: "blank", text: "no preview" })));
  const shot = element("a", { class: "shot", href: fileAddress(hit), "aria-label": described(hit), tabindex: -1 }, image, ...badges(hit));
  shot.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return; // a new tab
    event.preventDefault();
    actions.open(hit);
  });
  const tool = (name, label, act) => element("button", { type: "button", tabindex: -1, "aria-label": `${label}: ${hit.name}`, title: label, onclick: act }, icon(name));
  const made = element(
    "li", { class: hit.missing ? "card missing" : "card", "data-piece": hit.piece }, shot,
    element("div", { class: "tools" }, tool("similar", "Similar", () => actions.similar(hit)), tool("copy", "Copy path", () => copy(hit.path))),
    element("p", { class: "line" }, element("span", { class: "file", title: hit.path, text: hit.name }), hit.score === undefined ? null : element("span", { class: "score", text: score(hit.score) })),
  );
  made.style.setProperty("--ratio", ratio);
  made.hit = hit;
  return made;
}

function described(hit) {
  const parts = [hit.rank ? `${hit.rank}. ${hit.name}` : hit.name];
  if (hit.score !== undefined) parts.push(`score ${score(hit.score)}`);
  if (hit.kind === "video") parts.push(hit.spans?.length ? `video, ${clock(hit.start)} to ${clock(hit.stop)}` : "video");
  if (hit.others?.length) parts.push(`${hit.others.length + 1} near-duplicates`);
  if (hit.missing) parts.push("the file no longer exists");
  return parts.join(", ");
}

function badges(hit) {
  const made = [];
  if (hit.kind === "video") {
    const time = hit.spans?.length ? `${clock(hit.start)} – ${clock(hit.stop)}` : clock(hit.seconds ?? 0);
    made.push(element("span", { class: "badge time", "aria-hidden": "true" }, icon("play"), time));
  }
  const same = (hit.others?.length ?? 0) + (hit.copies?.length ?? 0);
  if (same) made.push(element("span", { class: "badge same", "aria-hidden": "true", title: "near-duplicates and copies", text: `+${same}` }));
  if (hit.missing) made.push(element("span", { class: "badge gone", "aria-hidden": "true", text: "file is gone" }));
  return made;
}

export const cards = () => [...$("results").querySelectorAll(".card")];
const link = (made) => made.querySelector(".shot");
export const focused = () => document.activeElement?.closest?.(".card") ?? null;

// One card is reached with Tab; arrow keys move from there.
export function reachable(made) {
  for (const each of cards()) link(each).tabIndex = each === made ? 0 : -1;
}

export function focus(made) {
  if (!made) return;
  reachable(made);
  link(made).focus();
  made.scrollIntoView({ block: "nearest" });
}

// Returns the card that an arrow key leads to; null if there is none.
export function neighbour(from, key) {
  const all = cards(), place = all.indexOf(from);
  if (key === "Home") return all[0] ?? null;
  if (key === "End") return all.at(-1) ?? null;
  if (key === "ArrowLeft") return all[place - 1] ?? null;
  if (key === "ArrowRight") return all[place + 1] ?? null;
  const here = link(from).getBoundingClientRect(), x = here.left + here.width / 2, down = key === "ArrowDown";
  let best = null, nearest = Infinity;
  for (const each of all) {
    const there = link(each).getBoundingClientRect();
    const rows = down ? there.top - here.bottom : here.top - there.bottom;
    if (rows < 0) continue;
    const away = rows * 1000 + Math.abs(there.left + there.width / 2 - x);
    if (away < nearest) [best, nearest] = [each, away];
  }
  return best;
}
