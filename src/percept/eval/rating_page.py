"""A self-contained page on which a person rates captions of images without knowing what made them; ratings are saved as json."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from percept.core.io import replacing
from percept.data.check.page import STYLE
from percept.eval.rating import HIGHEST, LOWEST, QUESTIONS, Sheet

MORE = """
header { position: sticky; top: 0; background: var(--paper); padding: 14px 0; border-bottom: 1px solid var(--line); z-index: 1; }
header div { display: flex; gap: 14px; align-items: center; flex-wrap: wrap; }
input[type=text], button { font: inherit; padding: 6px 12px; border: 1px solid var(--line); border-radius: 8px; background: var(--card); color: var(--ink); }
button { cursor: pointer; background: var(--accent); color: var(--paper); border: 0; }
.row { display: grid; grid-template-columns: 220px 1fr; gap: 22px; margin-top: 22px; padding: 16px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.row.done { border-color: var(--accent); } .row img { width: 100%; border-radius: 6px; image-rendering: auto; } .caption { font-size: 19px; color: var(--ink); margin-bottom: 12px; }
fieldset { border: 0; margin-top: 8px; display: flex; gap: 6px 16px; flex-wrap: wrap; align-items: center; } legend { color: var(--soft); float: left; min-width: 250px; }
@media (max-width: 640px) { .row { grid-template-columns: 1fr; } }
"""
SCRIPT = """
const sheet = JSON.parse(document.getElementById("sheet").textContent);
const store = "percept-ratings-" + sheet.name;
const state = JSON.parse(localStorage.getItem(store) || '{"rater": "", "ratings": {}}');
const keep = () => { try { localStorage.setItem(store, JSON.stringify(state)); } catch (error) {} show(); };
const finished = place => Object.keys(sheet.questions).every(name => (state.ratings[place] || {})[name] !== undefined);
function show() {
  const done = sheet.rows.filter((_, place) => finished(place)).length;
  document.getElementById("progress").textContent = done + " of " + sheet.rows.length + " captions rated";
  sheet.rows.forEach((_, place) => document.getElementById("row" + place).classList.toggle("done", finished(place)));
}
function scale(place, name, statement) {
  const field = document.createElement("fieldset"), legend = document.createElement("legend");
  legend.textContent = statement;
  field.append(legend);
  for (let value = sheet.lowest; value <= sheet.highest; value++) {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: name + place, value: value, checked: (state.ratings[place] || {})[name] === value });
    input.onchange = () => { (state.ratings[place] = state.ratings[place] || {})[name] = value; keep(); };
    label.append(input, " " + value);
    field.append(label);
  }
  return field;
}
sheet.rows.forEach((row, place) => {
  const section = document.createElement("section"), image = document.createElement("img"), side = document.createElement("div"), text = document.createElement("p");
  section.className = "row"; section.id = "row" + place;
  image.src = sheet.images[row.image]; image.alt = "";
  text.className = "caption"; text.textContent = row.caption;
  side.append(text, ...Object.entries(sheet.questions).map(([name, statement]) => scale(place, name, statement)));
  section.append(image, side);
  document.getElementById("rows").append(section);
});
const rater = document.getElementById("rater");
rater.value = state.rater;
rater.oninput = () => { state.rater = rater.value.trim(); keep(); };
document.getElementById("save").onclick = () => {
  const text = JSON.stringify({ sheet: sheet.name, rater: state.rater, saved: new Date().toISOString(), ratings: state.ratings }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "ratings-" + (state.rater || "rater").replace(/[^\\w-]+/g, "-") + ".json";
  link.click();
};
show();
"""


def write_rating_page(file: Path, sheet: Sheet) -> None:
    """Write the page of a sheet, which needs no other file and no network."""
    with replacing(file) as temporary:
        temporary.write_text(rating_page(sheet), encoding="utf-8")


def rating_page(sheet: Sheet) -> str:
    """Return the page. It does not say what made a caption; ratings are kept in the browser until they are saved."""
    data = json.dumps(_content(sheet)).replace("<", "\\u003c")
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Rating of captions</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>{STYLE}{MORE}</style></head><body><main><h1>Rating of captions</h1>
<p>Say how much you agree with two statements about each caption: {LOWEST} is not at all, {HIGHEST} is fully. An image may appear several times.
Your ratings stay in this browser until you save them; send the saved file to whoever asked you.</p>
<header><div><input type="text" id="rater" placeholder="Your name or number" aria-label="Your name or number">
<button id="save">Save ratings</button><span class="soft" id="progress"></span></div></header><div id="rows"></div>
<script type="application/json" id="sheet">{data}</script><script>{SCRIPT}</script></main></body></html>
"""


def _content(sheet: Sheet) -> dict[str, Any]:
    images: dict[str, int] = {}
    rows = [{"image": images.setdefault(_uri(row.image), len(images)), "caption": row.caption} for row in sheet.rows]
    return {
        "name": sheet.name, "rows": rows, "images": list(images), "questions": QUESTIONS, "lowest": LOWEST, "highest": HIGHEST,
    }  # fmt: skip


def _uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
