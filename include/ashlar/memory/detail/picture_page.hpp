// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

/// What a picture of an allocator looks like: the parts of its page that are always the same.
namespace ashlar::memory::detail {

inline constexpr std::string_view picture_style = R"css(
svg{display:block;background:#f6f6f6;margin:.3em 0 1em}
rect,path{cursor:pointer}
.free{fill:#ddd}.waiting{fill:#caa}
.dim{opacity:.12}.chosen{stroke:#000;stroke-width:2px}
#legend span{display:inline-block;padding:.1em .6em;margin:.1em;cursor:pointer;color:#fff}
#details{position:sticky;top:0;background:#fff;border:1px solid #999;padding:.4em;min-height:1.3em}
text{font-size:11px}
)css";

inline constexpr std::string_view picture_body = R"html(
<p id="summary"></p>
<div id="details">Point at a block, or at a moment; click on a label to see its blocks alone.</div>
<div id="legend"></div>
<h2>Segments now</h2><div id="map"></div>
<div id="history">
<h2>Address space over time</h2><div id="space"></div>
<h2>Live bytes by label</h2><div id="labels"></div>
<h2>Reserved, in use, and the largest free block</h2><div id="curve"></div>
</div>
)html";

inline constexpr std::string_view picture_script = R"js(
const width = 1000, svgns = 'http://www.w3.org/2000/svg';
const $ = id => document.getElementById(id);
const colour = i => i < 0 ? '#789' : `hsl(${i * 137.5 % 360} 55% ${40 + i % 3 * 8}%)`;
const name = i => i < 0 ? '(no label)' : data.labels[i];
const size = b => b >= 1 << 20 ? (b / (1 << 20)).toFixed(1) + ' MiB'
                : b >= 1024 ? (b / 1024).toFixed(1) + ' KiB' : b + ' B';
const tell = text => { $('details').textContent = text; };
function draw(kind, inside, attributes) {
  const e = document.createElementNS(svgns, kind);
  for (const k in attributes) e.setAttribute(k, attributes[k]);
  inside.appendChild(e);
  return e;
}
function canvas(where, height) {
  return draw('svg', $(where), {width, height, viewBox: `0 0 ${width} ${height}`});
}
function block(svg, x, y, w, h, label, cls, words) {
  const r = draw('rect', svg, {x, y, width: Math.max(w, .5), height: Math.max(h, .5)});
  if (cls) r.setAttribute('class', cls); else r.setAttribute('fill', colour(label));
  r.dataset.label = cls ? 'free' : label;
  const show = () => {
    document.querySelectorAll('.chosen').forEach(e => e.classList.remove('chosen'));
    r.classList.add('chosen');
    tell(words());
  };
  r.addEventListener('mouseenter', show);
  r.addEventListener('click', show);
}

// How many actions the charts span, and where one of them lies.
const first = data.first, last = Math.max(data.last, first + 1);
const x = n => (n - first) / (last - first) * width;
function cursor(svg, height) {
  const line = draw('path', svg, {stroke: '#000', fill: 'none', 'stroke-width': .7});
  svg.addEventListener('mousemove', e => {
    const at = e.clientX - svg.getBoundingClientRect().left;
    const n = first + at / width * (last - first);
    line.setAttribute('d', `M${at} 0V${height}`);
    let c = data.curve[0];
    for (const p of data.curve) if (p[0] <= n) c = p;
    if (c && !(e.target instanceof SVGRectElement))
      tell(`action ${c[0]}: ${size(c[1])} reserved, ${size(c[2])} in use, largest free block ` +
           `${size(c[3])}: ${fragmentation(c)} % fragmented`);
  });
}
const fragmentation = c =>
  c[1] > c[2] ? Math.round(100 * (1 - c[3] / (c[1] - c[2]))) : 0;

function segments() {
  const most = Math.max(1, ...data.segments.map(s => s.bytes));
  const svg = canvas('map', data.segments.length * 18 + 4);
  data.segments.forEach((s, i) => {
    for (const [at, bytes, state, requested, label] of s.blocks)
      block(svg, at / most * width, i * 18 + 2, bytes / most * width, 14, label,
            state == 1 ? '' : state == 0 ? 'free' : 'waiting',
            () => `${['free', name(label), 'waits for other queues: ' + name(label)][state]}: ` +
                  `${size(bytes)}${state == 1 ? ' for ' + requested + ' bytes' : ''} at ` +
                  `0x${(s.address + at).toString(16)}, segment of ${size(s.bytes)}, queue ${s.queue}` +
                  (s.owner ? `, private pool ${s.owner}` : ''));
  });
}
function space() {
  const height = 360, svg = canvas('space', height);
  for (const [from, to, at, bytes, label, address] of data.spans)
    block(svg, x(from), height - (at + bytes) / data.extent * height, x(to) - x(from),
          bytes / data.extent * height, label, '',
          () => `${name(label)}: ${size(bytes)} at 0x${address.toString(16)}, from action ${from} ` +
                (to < last ? `to ${to}` : 'on'));
  cursor(svg, height);
}
function chart(where, height, lines, most, words) {
  const svg = canvas(where, height);
  for (const {points, fill, stroke, label} of lines) {
    const p = draw('path', svg, {d: points, fill, stroke});
    p.dataset.label = label;
    if (words) p.addEventListener('click', () => tell(words(label)));
  }
  draw('text', svg, {x: 4, y: 12}).textContent = size(most);
  cursor(svg, height);
}
function stacks() {
  // Live bytes of each label at each sample, one on top of the other.
  const rows = data.stacks, height = 200;
  const sums = data.curve.map((_, k) => rows.reduce((a, r) => a + r.bytes[k], 0));
  const most = Math.max(1, ...sums), below = sums.map(() => 0);
  const y = b => height - b / most * (height - 16);
  chart('labels', height, rows.map(r => {
    const at = k => x(data.curve[k][0]);
    const low = below.map((b, k) => `${at(k)} ${y(b)}`);
    r.bytes.forEach((b, k) => { below[k] += b; });
    const high = below.map((b, k) => `${at(k)} ${y(b)}`);
    return {points: 'M' + high.join('L') + 'L' + low.reverse().join('L') + 'Z',
            fill: colour(r.label), stroke: 'none', label: r.label};
  }), most, label => `${name(label)}: at most ` +
      size(Math.max(...rows.find(r => r.label == label).bytes)));
}
function curves() {
  const height = 160, most = Math.max(1, ...data.curve.map(c => c[1]));
  const line = k => 'M' + data.curve.map(c =>
    `${x(c[0])} ${height - c[k] / most * (height - 16)}`).join('L');
  chart('curve', height, [[1, '#333'], [2, '#27a'], [3, '#c50']].map(([k, stroke]) =>
    ({points: line(k), fill: 'none', stroke, label: 'curve'})), most);
}
function legend() {
  let alone = null;
  for (const i of [...data.labels.keys(), -1]) {
    const e = document.createElement('span');
    e.textContent = name(i);
    e.style.background = colour(i);
    e.addEventListener('click', () => {
      alone = alone === i ? null : i;
      document.querySelectorAll('[data-label]').forEach(r =>
        r.classList.toggle('dim', alone !== null && r.dataset.label != alone));
      tell(alone === null ? 'all blocks' : `blocks of ${name(i)} alone`);
    });
    $('legend').appendChild(e);
  }
}
const s = data.stats;
$('summary').textContent =
  `${size(s.allocated)} in use (${size(s.requested)} asked for), ${size(s.reserved)} reserved; ` +
  `peaks ${size(s.peak_allocated)} and ${size(s.peak_reserved)}; ${s.requests} requests, ` +
  `${s.upstream_requests} of the chip, ${s.retries} retries, ${s.failures} failures`;
legend();
segments();
if (data.curve.length > 1) { space(); stacks(); curves(); } else $('history').remove();
)js";

}  // namespace ashlar::memory::detail
