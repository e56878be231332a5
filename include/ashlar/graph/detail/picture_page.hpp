// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

/// What a picture of a graph looks like: the parts of its page that are always the same.
namespace ashlar::graph::detail {

inline constexpr std::string_view picture_style = R"css(
#picture{overflow:auto;border:1px solid #ccc;max-height:80vh}
#details{position:sticky;top:0;background:#fff;border:1px solid #999;padding:.4em;min-height:2.6em;
  white-space:pre-wrap;font-family:monospace}
svg text{font:12px monospace;pointer-events:none}
rect{stroke:#555;cursor:pointer;rx:4px}
path{fill:none;stroke:#888}
.placeholder rect{fill:#dbe9f6}.parameter rect{fill:#fde9c9}.constant rect{fill:#eee}
.call rect{fill:#fff}.writes rect{fill:#f9d6d5}.output rect{fill:#d9ead3}
.dim{opacity:.15}.chosen rect{stroke:#000;stroke-width:2px}
)css";

inline constexpr std::string_view picture_body = R"html(
<p id="summary"></p>
<p><label>Find <input id="find" size="30" placeholder="operator, name, f32[2, 3], file.cpp"></label></p>
<div id="details">Click on a node to see its line, and what it reads and who reads it alone.</div>
<div id="picture"></div>
)html";

inline constexpr std::string_view picture_script = R"js(
const svgns = 'http://www.w3.org/2000/svg';
const $ = id => document.getElementById(id);
function draw(kind, inside, attributes, words) {
  const e = document.createElementNS(svgns, kind);
  for (const k in attributes) e.setAttribute(k, attributes[k]);
  if (words !== undefined) e.textContent = words;
  inside.appendChild(e);
  return e;
}
const nodes = data.nodes, edges = data.edges;
const into = nodes.map(() => []), from = nodes.map(() => []);
edges.forEach(([a, b], i) => { from[a].push(i); into[b].push(i); });

// Rows: below all that it reads; what reads nothing stands above its first reader.
const row = nodes.map(() => 0);
nodes.forEach((n, i) => {
  for (const e of into[i]) row[i] = Math.max(row[i], row[edges[e][0]] + 1);
});
nodes.forEach((n, i) => {
  if (!into[i].length && from[i].length)
    row[i] = Math.max(0, from[i].reduce((m, e) => Math.min(m, row[edges[e][1]]), 1e9) - 1);
});
const rows = [];
nodes.forEach((n, i) => { (rows[row[i]] ??= []).push(i); });

// Places: each row in the order of what it reads, left to right, centred.
const height = 36, gap = 24, step = 84, x = [], width = nodes.map(
  n => 16 + 7.3 * Math.max(n.name.length, n.label.length));
const total = Math.max(200, ...rows.map(
  r => r.reduce((sum, i) => sum + width[i] + gap, gap)));
for (const r of rows) {
  const want = i => into[i].length
    ? into[i].reduce((sum, e) => sum + x[edges[e][0]] + width[edges[e][0]] / 2, 0) / into[i].length
    : total / 2;
  r.sort((a, b) => want(a) - want(b));
  let at = (total - r.reduce((sum, i) => sum + width[i] + gap, -gap)) / 2;
  for (const i of r) { x[i] = at; at += width[i] + gap; }
}
const y = i => 10 + row[i] * step;

const tall = rows.length * step;
const svg = draw('svg', $('picture'), {width: total, height: tall, viewBox: `0 0 ${total} ${tall}`});
const wires = edges.map(([a, b, words]) => {
  const x0 = x[a] + width[a] / 2, y0 = y(a) + height, x1 = x[b] + width[b] / 2, y1 = y(b);
  const p = draw('path', svg, {d: `M${x0} ${y0}C${x0} ${y0 + 30} ${x1} ${y1 - 30} ${x1} ${y1}`});
  draw('title', p, {}, words);
  return p;
});
const boxes = nodes.map((n, i) => {
  const g = draw('g', svg, {class: n.kind + (n.writes ? ' writes' : '')});
  const r = draw('rect', g, {x: x[i], y: y(i), width: width[i], height});
  draw('text', g, {x: x[i] + 8, y: y(i) + 15}, n.name);
  draw('text', g, {x: x[i] + 8, y: y(i) + 30}, n.label);
  draw('title', r, {}, n.text);
  r.addEventListener('click', () => choose(i));
  return g;
});
function show(kept) {
  boxes.forEach((g, i) => g.classList.toggle('dim', !kept(i)));
  wires.forEach((p, i) => p.classList.toggle('dim', !(kept(edges[i][0]) && kept(edges[i][1]))));
}
let chosen = -1;
function choose(i) {
  boxes.forEach(g => g.classList.remove('chosen'));
  if (chosen === i) { chosen = -1; show(() => true); return; }
  chosen = i;
  boxes[i].classList.add('chosen');
  const near = new Set([i, ...into[i].map(e => edges[e][0]), ...from[i].map(e => edges[e][1])]);
  show(j => near.has(j));
  const names = list => [...new Set(list)].map(j => nodes[j].name).join(', ') || '-';
  $('details').textContent = nodes[i].text + (nodes[i].where ? '   // ' + nodes[i].where : '') +
    '\nreads: ' + names(into[i].map(e => edges[e][0])) +
    '   read by: ' + names(from[i].map(e => edges[e][1]));
}
$('find').addEventListener('input', () => {
  const words = $('find').value;
  show(i => (nodes[i].text + ' ' + nodes[i].where).includes(words));
});
$('summary').textContent = `${nodes.filter(n => n.kind === 'call').length} calls, ` +
  `${nodes.length - 1} nodes, ${edges.length} edges`;
)js";

}  // namespace ashlar::graph::detail
