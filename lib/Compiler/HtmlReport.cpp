// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The report as a page for a browser: a fixed page, and the numbers as JSON in
// it, from which a script draws tables and plots.

#include "hadal/Compiler.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"

using namespace hadal;

static constexpr char page[] = R"html(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hadal report</title>
<style>
:root { --text: #1c2330; --dim: #5b6472; --line: #d8dde5; --fill: #2f6fab; --fill2: #d08a2e; --back: #fff; --soft: #f4f6f9 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e8ee; --dim: #9aa4b2; --line: #353c47; --fill: #6aa5dd; --fill2: #e0a95c; --back: #15191f; --soft: #1d232b } }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--text); background: var(--back); max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line) }
.dim { color: var(--dim) } .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1rem 0 }
.card { background: var(--soft); border-radius: 6px; padding: .5rem .9rem } .card b { display: block; font-size: 1.2rem }
/* On a narrow screen, tables and plots are scrolled, not squeezed. */
.wide { overflow-x: auto } .wide > * { min-width: 38rem } td, th { white-space: nowrap } .wrap td.left { white-space: normal }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums } td, th { text-align: right; padding: .15rem .6rem; border-bottom: 1px solid var(--line) }
th { color: var(--dim); font-weight: 600; cursor: pointer } th:is(:hover, :focus-visible) { color: var(--text) }
th[aria-sort]::after { content: " \25b4" } th[aria-sort=descending]::after { content: " \25be" } td:first-child, th:first-child, td.left, th.left { text-align: left }
svg { width: 100%; height: auto; background: var(--soft); border-radius: 6px } svg text { fill: var(--dim); font-size: 12px }
pre { background: var(--soft); padding: .6rem; overflow-x: auto; font-size: 12px; line-height: 1.35 } mark { background: #f6d55c; color: #111 }
summary { cursor: pointer; padding: .2rem 0 } input { width: 22rem; max-width: 100%; box-sizing: border-box } input, select { font: inherit; padding: .3rem .6rem; color: inherit; background: var(--back); border: 1px solid var(--line); border-radius: 4px }
.passes { columns: 18rem; font-family: monospace; font-size: 12px } .passes li { break-inside: avoid }
</style></head><body>
<h1 id="name"></h1><div class="dim" id="kind"></div><div class="cards" id="cards"></div>
<h2>Layers</h2><div class="wide"><table id="layers"></table></div>
<h2>Stored weights</h2><div class="wide"><table id="storage"></table></div>
<h2>Memory</h2><p class="dim" id="formula"></p><div class="wide" id="memory"></div>
<h2>Roofline</h2><p class="dim" id="roof-text"></p><div class="wide" id="roofline"></div><p><select id="step" hidden></select></p><div class="wide"><table id="steps"></table></div>
<h2>Passes, and what each changed</h2><div class="wide wrap"><table id="changes"></table></div><details><summary>with their options, as hadal-opt takes them</summary><ol class="passes" id="passes"></ol></details>
<h2>IR by function</h2><p><input id="search" type="search" placeholder="search the IR, as in linear or kv_b_proj"> <span class="dim" id="found"></span></p><div id="ir"></div>
<script type="application/json" id="report">@REPORT@</script>
<script type="application/json" id="listing">@IR@</script>
<script>
"use strict";
const report = JSON.parse(document.getElementById("report").textContent);
const listing = JSON.parse(document.getElementById("listing").textContent);
const at = id => document.getElementById(id);
const make = (tag, text, parent, kind) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; if (kind) e.className = kind; if (parent) parent.append(e); return e; };
function scale(n, unit) {
  if (!n) return "0" + (unit ? " " + unit : "");
  const names = ["", "k", "M", "G", "T", "P"]; let i = 0;
  while (Math.abs(n) >= 1000 && i < 5) { n /= 1000; ++i; }
  return n.toPrecision(3).replace(/\.0+$/, "") + " " + names[i] + (unit || "");
}
const bytes = n => scale(n, "B"), grouped = n => Math.round(n).toLocaleString("en");
function time(s) { return s >= 1 ? s.toPrecision(3) + " s" : s >= 1e-3 ? (s * 1e3).toPrecision(3) + " ms" : (s * 1e6).toPrecision(3) + " µs"; }
// Rows are arrays of [value, text]; a click on a head sorts by the value.
function table(id, heads, rows) {
  const t = at(id); t.replaceChildren(); const head = make("tr", undefined, make("thead", undefined, t)), body = make("tbody", undefined, t);
  const fill = () => { body.replaceChildren(); for (const row of rows) { const tr = make("tr", undefined, body); for (const [value, text] of row) make("td", text, tr, typeof value === "string" ? "left" : ""); } };
  heads.forEach((name, i) => {
    const th = make("th", name, head, rows.length && typeof rows[0][i][0] === "string" ? "left" : ""); let up = false;
    th.tabIndex = 0; th.onkeydown = event => { if (event.key === "Enter") th.onclick(); };
    th.onclick = () => {
      for (const other of head.children) other.removeAttribute("aria-sort");
      up = !up; th.setAttribute("aria-sort", up ? "descending" : "ascending"); rows.sort((a, b) => (a[i][0] < b[i][0] ? -1 : a[i][0] > b[i][0] ? 1 : 0) * (up ? -1 : 1)); fill();
    };
  });
  fill();
}
const svgNS = "http://www.w3.org/2000/svg";
function svg(parent, width, height) { const e = document.createElementNS(svgNS, "svg"); e.setAttribute("viewBox", `0 0 ${width} ${height}`); parent.append(e); return e; }
function shape(parent, tag, attributes, text) {
  const e = document.createElementNS(svgNS, tag); for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) { if (tag === "text") e.textContent = text; else { const t = document.createElementNS(svgNS, "title"); t.textContent = text; e.append(t); } }
  parent.append(e); return e;
}

document.title = report.name + " – Hadal report";
at("name").textContent = report.name;
at("kind").textContent = `${report.model_type}, context ${grouped(report.context_tokens)}, cache in ${report.kv_type}`;
for (const [label, value] of [["parameters", scale(report.parameters)], ["active, per token", scale(report.active_parameters)],
    ["FLOPs, decode", scale(report.decode.flops)], ["bytes read, decode", bytes(report.decode.bytes)],
    ["weights file", bytes(report.memory.weights_section_bytes)], ["KV cache, per token", bytes(report.kv_bytes_per_token)]]) {
  const card = make("div", undefined, at("cards"), "card"); make("b", value, card); make("span", label, card, "dim");
}
table("layers", ["layer", "count", "parameters", "active", "FLOPs/token", "weights", "read/token"], report.layers.map(l =>
  [[l.name, l.name], [l.count, l.count], [l.parameters, scale(l.parameters)], [l.active_parameters, scale(l.active_parameters)],
   [l.flops_per_token, scale(l.flops_per_token)], [l.weight_bytes, bytes(l.weight_bytes)], [l.active_weight_bytes, bytes(l.active_weight_bytes)]]));
table("storage", ["stored as", "parameters", "bytes", "bits/weight"], report.storage.map(s =>
  [[s.type, s.type], [s.parameters, scale(s.parameters)], [s.bytes, bytes(s.bytes)], [s.bytes / s.parameters, (8 * s.bytes / s.parameters).toFixed(2)]]));

// Memory of a session against the tokens in its sequence, over the mapped weights.
(() => {
  const m = report.memory, most = report.context_tokens, step = 512;
  at("formula").textContent = `Besides weights: ${grouped(m.arena_bytes_per_token)} · t + ${grouped(m.arena_bytes_fixed)} bytes for steps of t tokens, and ${grouped(m.page_bytes)} bytes per KV page of ${m.page_tokens} tokens of a sequence. The plot: one sequence, t = ${step}.`;
  const arena = m.arena_bytes_per_token * Math.min(step, most) + m.arena_bytes_fixed;
  const pages = Math.max(1, m.pages_of_sequence_for_steps_of_512);
  const kv = n => Math.min(Math.ceil(n / m.page_tokens), pages) * m.page_bytes;
  const top = m.weights_section_bytes + arena + kv(most), w = 900, h = 260, x0 = 90, y0 = h - 30;
  const s = svg(at("memory"), w, h), x = n => x0 + n / most * (w - x0 - 150), y = b => y0 - b / top * (y0 - 20);
  let above = y0 + 22; // Of the label below; they keep their distance.
  const area = (low, high, color, label, value) => {
    const n = 64, xs = [...Array(n + 1).keys()].map(i => i / n * most);
    shape(s, "polygon", { points: xs.map(t => `${x(t)},${y(high(t))}`).concat(xs.reverse().map(t => `${x(t)},${y(low(t))}`)).join(" "), fill: color, "fill-opacity": .75 }, label);
    above = Math.min(y((low(most) + high(most)) / 2) + 4, above - 16);
    shape(s, "text", { x: x(most) + 8, y: above }, `${label} ${bytes(value)}`);
  };
  const weights = m.weights_section_bytes;
  area(() => 0, () => weights, "var(--fill)", "weights", weights);
  area(() => weights, () => weights + arena, "var(--dim)", "arena", arena);
  area(() => weights + arena, t => weights + arena + kv(t), "var(--fill2)", "KV cache", kv(most));
  for (let i = 0; i <= 4; ++i) { shape(s, "text", { x: x(most * i / 4), y: h - 10, "text-anchor": "middle" }, grouped(most * i / 4) + (i === 4 ? " tokens" : "")); shape(s, "text", { x: x0 - 8, y: y(top * i / 4) + 4, "text-anchor": "end" }, bytes(top * i / 4)); }
})();

// What each kind of op of a layer does in a step, against what the machine can.
(() => {
  if (!report.prediction) { at("roof-text").textContent = "No machine was given: hadalc --report=FILE.html --machine=... has this section say how long each op takes, and why."; return; }
  const machine = report.prediction.machine, steps = report.prediction.steps;
  const tops = [["int8", machine.int8_operations_per_s], ["f32", machine.f32_operations_per_s]];
  at("roof-text").textContent = `Predicted for ${bytes(machine.read_bytes_per_s)}/s, ${scale(tops[0][1])}OP/s in int8, ${scale(tops[1][1])}OP/s in f32. A point is an op of a layer; the size is its share of the time of the step.`;
  const points = [];
  for (const step of steps) for (const op of step.ops) {
    const work = op.f32_operations + op.int8_operations;
    if (work && op.bytes && op.seconds) points.push({ step, op, x: work / op.bytes, y: work / op.seconds });
  }
  const peak = Math.max(tops[0][1], tops[1][1]), w = 900, h = 380, x0 = 90, y0 = h - 40;
  const xs = points.map(p => p.x), lx = Math.log10(Math.min(.1, ...xs)), hx = Math.log10(Math.max(1000, ...xs) * 2);
  const hy = Math.log10(peak * 2), ly = hy - 5, s = svg(at("roofline"), w, h);
  const x = v => x0 + (Math.log10(v) - lx) / (hx - lx) * (w - x0 - 20), y = v => y0 - (Math.max(Math.log10(v), ly) - ly) / (hy - ly) * (y0 - 20);
  for (let e = Math.ceil(lx); e <= hx; ++e) { shape(s, "line", { x1: x(10 ** e), x2: x(10 ** e), y1: 20, y2: y0, stroke: "var(--line)" }); shape(s, "text", { x: x(10 ** e), y: y0 + 16, "text-anchor": "middle" }, String(+(10 ** e).toPrecision(3))); }
  for (let e = Math.ceil(ly); e <= hy; ++e) { shape(s, "line", { x1: x0, x2: w - 20, y1: y(10 ** e), y2: y(10 ** e), stroke: "var(--line)" }); shape(s, "text", { x: x0 - 8, y: y(10 ** e) + 4, "text-anchor": "end" }, scale(10 ** e) + "OP/s"); }
  shape(s, "text", { x: (x0 + w) / 2, y: h - 6, "text-anchor": "middle" }, "operations per byte read");
  for (const [name, top] of tops) {
    const ridge = top / machine.read_bytes_per_s, from = 10 ** lx;
    shape(s, "polyline", { points: `${x(from)},${y(from * machine.read_bytes_per_s)} ${x(ridge)},${y(top)} ${x(10 ** hx)},${y(top)}`, fill: "none", stroke: "var(--dim)", "stroke-width": 1.5 }, name);
    shape(s, "text", { x: w - 26, y: y(top) - 5, "text-anchor": "end" }, name);
  }
  for (const p of points)
    shape(s, "circle", { cx: x(p.x), cy: y(p.y), r: 3 + 14 * Math.sqrt(p.op.seconds / p.step.seconds), fill: p.step.kind === "decode" ? "var(--fill)" : "var(--fill2)", "fill-opacity": .6 },
      `${p.step.kind} of ${p.step.tokens}: ${p.op.layer}, ${p.op.op}: ${time(p.op.seconds)}, ${p.op.bound}`);
  shape(s, "circle", { cx: x0 + 20, cy: 32, r: 6, fill: "var(--fill)" }); shape(s, "text", { x: x0 + 32, y: 36 }, "decode");
  shape(s, "circle", { cx: x0 + 100, cy: 32, r: 6, fill: "var(--fill2)" }); shape(s, "text", { x: x0 + 112, y: 36 }, "prefill");
  const show = step => table("steps", ["layer", "op", "time", "share", "bytes", "operations", "bound by"], step.ops.map(op =>
    [[op.layer, op.layer], [op.op, op.op], [op.seconds, time(op.seconds)], [op.seconds / step.seconds, (100 * op.seconds / step.seconds).toFixed(1) + " %"],
     [op.bytes, bytes(op.bytes)], [op.f32_operations + op.int8_operations, scale(op.f32_operations + op.int8_operations)], [op.bound, op.bound]]));
  for (const step of steps)
    make("option", `${step.kind} of ${step.tokens} after ${step.depth}: ${time(step.seconds)}, ${scale(step.tokens_per_s)} tokens/s`, at("step"));
  at("step").hidden = false; at("step").onchange = () => show(steps[at("step").selectedIndex]);
  show(steps[0]);
})();

for (const pass of listing.passes) make("li", pass, at("passes"));
table("changes", ["pass", "ops", "what"], listing.changes.map(c => {
  const ops = Object.entries(c.ops), sum = ops.reduce((s, [, n]) => s + n, 0);
  ops.sort((a, b) => (a[1] > 0) - (b[1] > 0) || Math.abs(b[1]) - Math.abs(a[1])); // What is gone comes first.
  const more = ops.length > 6 ? `, and ${ops.length - 6} more` : "";
  const text = ops.slice(0, 6).map(([name, n]) => `${n > 0 ? "+" : "−"}${Math.abs(n)} ${name}`).join(", ") + more;
  return [[c.pass, c.pass], [sum, (sum > 0 ? "+" : "") + grouped(sum).replace("-", "−")],
          [text, text || (c.changed ? "attributes, types or order" : "nothing")]];
}));
const blocks = listing.functions.map(f => {
  const details = make("details", undefined, at("ir")); make("summary", `@${f.name} (${f.text.split("\n").length} lines)`, details);
  return { details, pre: make("pre", f.text, details), text: f.text };
});
at("search").oninput = () => {
  const word = at("search").value; let count = 0;
  for (const b of blocks) {
    const parts = word ? b.text.split(word) : [b.text]; count += parts.length - 1;
    b.details.hidden = !!word && parts.length === 1; b.details.open = !!word && parts.length > 1;
    b.pre.replaceChildren(); parts.forEach((part, i) => { if (i) make("mark", word, b.pre); b.pre.append(part); });
  }
  at("found").textContent = word ? `${count} found` : "";
};
</script></body></html>
)html";

/// Replaces \p key in \p text by JSON that cannot end the script it stands in.
static void insertJson(std::string &text, llvm::StringRef key,
                       llvm::StringRef json) {
  std::string safe;
  for (char c : json) {
    if (c == '<')
      safe += "\\u003c";
    else
      safe += c;
  }
  text.replace(text.find(key.str()), key.size(), safe);
}

std::string ModelReport::toHTML(const IRListing &ir) const {
  llvm::json::Array functions, passes;
  for (const auto &[name, text] : ir.functions)
    functions.push_back(
        llvm::json::Object{{"name", llvm::json::fixUTF8(name)},
                           {"text", llvm::json::fixUTF8(text)}});
  for (const std::string &pass : ir.passes)
    passes.push_back(llvm::json::fixUTF8(pass));
  llvm::json::Array changes;
  for (const PassChange &change : ir.changes) {
    llvm::json::Object ops;
    for (const auto &[name, count] : change.ops)
      ops[llvm::json::fixUTF8(name)] = count;
    changes.push_back(llvm::json::Object{{"pass", change.pass},
                                         {"changed", change.isChanged},
                                         {"ops", std::move(ops)}});
  }
  std::string text = page;
  // The second first, since what is put in may have any text.
  insertJson(text, "@IR@",
             llvm::formatv("{0}", llvm::json::Value(llvm::json::Object{
                                      {"functions", std::move(functions)},
                                      {"passes", std::move(passes)},
                                      {"changes", std::move(changes)}}))
                 .str());
  insertJson(text, "@REPORT@", toJSON());
  return text;
}
