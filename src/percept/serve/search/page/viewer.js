// One result, large, with what is known about it.

import { $, clock, copy, element, fileAddress, many, score } from "./api.js";

const LARGEST = 3; // times its size

let actions, shown = null;

export function prepare(given) {
  actions = given;
  $("close").onclick = () => $("view").close();
  $("view-similar").onclick = () => similar();
  $("view-copy").onclick = () => copy(shown.path);
  $("previous").onclick = () => turn(-1);
  $("next").onclick = () => turn(1);
  $("view").addEventListener("click", (event) => { if (event.target === $("view")) $("view").close(); });
  $("view").addEventListener("close", () => {
    $("stage").replaceChildren(); // ends a video
    actions.closed(shown);
  });
  $("view").addEventListener("keydown", keys);
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "VIDEO") return;
  const known = { ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), s: similar, c: () => copy(shown.path), o: () => $("view-open").click() };
  if (!known[event.key]) return;
  event.preventDefault();
  known[event.key]();
}

function similar() {
  const hit = shown;
  $("view").close();
  actions.similar(hit);
}

function turn(step) {
  const other = actions.beside(shown, step);
  if (other) open(other);
}

export function open(hit) {
  shown = hit;
  $("view-name").textContent = hit.name;
  $("view-path").textContent = hit.path;
  $("view-open").href = fileAddress(hit);
  $("previous").disabled = !actions.beside(hit, -1);
  $("next").disabled = !actions.beside(hit, 1);
  media(hit);
  facts(hit);
  list("spans", hit.spans ?? [], (span) => element("button", { type: "button", class: "span", onclick: () => seek(span) }, element("img", { src: span.thumbnail, alt: "", loading: "lazy" }), element("span", { text: `${clock(span.start)} – ${clock(span.stop)}` }), element("span", { class: "score", text: score(span.score) })));
  list("others", hit.others ?? [], (other) => element("button", { type: "button", class: "other", "aria-label": `Show ${other.name}`, title: other.path, onclick: () => open(other) }, element("img", { src: other.thumbnail, alt: "", loading: "lazy" })));
  list("copies", hit.copies ?? [], (path) => element("button", { type: "button", class: "link", title: "Copy path", text: path, onclick: () => copy(path) }));
  if (!$("view").open) $("view").showModal();
}

function media(hit) {
  const instead = (reason) => {
    const image = element("img", { src: hit.thumbnail, alt: hit.name });
    $("stage").replaceChildren(image, element("p", { class: "reason", text: reason }));
  };
  if (hit.missing) return instead("The file no longer exists. This is the preview that the index keeps.");
  const made = hit.kind === "video" ? element("video", { src: fileAddress(hit), controls: true, autoplay: true, loop: true, poster: hit.thumbnail, "aria-label": hit.name }) : element("img", { src: hit.file, alt: hit.name });
  made.muted = true;
  made.addEventListener("error", async () => {
    const status = await fetch(hit.file, { method: "HEAD" }).then((response) => response.status, () => 0);
    if (shown !== hit) return;
    instead(status === 410 ? "The file is gone, or has changed since it was indexed. This is the preview that the index keeps." : "The browser cannot show this format. Open the file with a program that can.");
  });
  if (hit.kind === "image") { // a small image is not blown up
    made.style.maxWidth = `${LARGEST * hit.width}px`;
    made.style.maxHeight = `${LARGEST * hit.height}px`;
  }
  $("stage").replaceChildren(made);
}

function seek(span) {
  const video = $("stage").querySelector("video");
  $("view-open").href = `${shown.file}#t=${span.start.toFixed(2)},${span.stop.toFixed(2)}`;
  if (!video) return;
  video.src = $("view-open").href;
  video.play().catch(() => {});
}

function facts(hit) {
  const rows = [
    hit.score === undefined ? null : ["Score", score(hit.score)],
    hit.rank ? ["Rank", hit.rank] : null,
    ["Size", `${hit.width} × ${hit.height} pixels`],
    hit.seconds ? ["Length", clock(hit.seconds)] : null,
    hit.taken ? ["Taken", hit.taken.replace("T", " ").slice(0, 16)] : null,
    hit.group ? ["Folder", hit.group] : null,
    hit.copies?.length ? ["Copies", many(hit.copies.length, "file")] : null,
  ];
  $("facts").replaceChildren(...rows.filter(Boolean).map(([name, value]) => element("div", {}, element("dt", { text: name }), element("dd", { text: value }))));
}

function list(id, values, make) {
  $(id).hidden = !values.length;
  $(id).querySelector("ul").replaceChildren(...values.map((value) => element("li", {}, make(value))));
}
