// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/picture.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "graph/text_samples.hpp"
#include "support/browser.hpp"

namespace graph = ashlar::graph;

namespace {

[[nodiscard]] std::size_t count(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string_view::npos;
       at += what.size()) {
    ++n;
  }
  return n;
}

/// How many arrows a picture has.
[[nodiscard]] std::size_t edges_of(const graph::graph& g) {
  std::size_t edges = g.outputs.size();
  for (const graph::node& n : g.nodes) {
    edges += n.in.size();
  }
  return edges;
}

}  // namespace

TEST_CASE("graph/picture: Graphviz gets every node and edge, and no name ends a label") {
  const graph::graph g = text_samples::sample();
  const std::string dot = to_dot(g);
  CAPTURE(dot);
  CHECK(count(dot, " -> ") == edges_of(g));
  CHECK(count(dot, "fillcolor=\"") == g.nodes.size() + 1);
  CHECK(dot.find("[label=\"an \\\\ \\\"odd\\\"? one\\nparameter\"") != std::string::npos);
  CHECK(dot.find("[label=\"scale\\nscale.in_place 2.0, -0.125\"") != std::string::npos);
  // As Graphviz reads: outside of strings, in which a backslash guards the next character, there
  // are words, numbers and the marks of the language.
  bool inside = false;
  for (std::size_t i = 0; i < dot.size(); ++i) {
    if (inside && dot[i] == '\\') {
      ++i;
    } else if (dot[i] == '"') {
      inside = !inside;
    } else if (inside) {
      CHECK(static_cast<unsigned char>(dot[i]) >= 0x20);
    } else {
      CHECK(std::string_view("abcdefghijklmnopqrstuvwxyz0123456789{}[]=,;-> \n").find(dot[i]) !=
            std::string_view::npos);
    }
  }
  CHECK(!inside);
}

TEST_CASE("graph/picture: a page of one file, also for a graph without nodes") {
  const std::string html = to_html(graph::graph{});
  CHECK(html.find("http") == html.find("http-equiv"));  // nothing is fetched
  CHECK(count(to_html(text_samples::sample(), "</title>"), "</title>") == 1);
}

TEST_CASE("graph/picture: a browser draws every node and answers to clicks") {
#ifndef ASHLAR_CHROMIUM
  MESSAGE("SKIPPED: graph/picture in a browser: no Chromium where this was configured");
#else
  graph::graph g = text_samples::sample();
  g.nodes[0].name = "</script><b>\"odd\" & <i>";
  const std::string html = to_html(g, "A <title>");
  CHECK(count(html, "</script>") == 2);
  CHECK(html.find("src=") == std::string::npos);
  const std::string dom = browser::rendered(browser::with_script(html, R"js(
    const all = what => document.querySelectorAll(what).length;
    const note = text => document.body.appendChild(document.createElement('pre')).textContent = text;
    note('drawn: ' + all('#picture rect') + ' ' + all('#picture path') + ' ' + all('.writes'));
    const r = [...document.querySelectorAll('#picture rect')].map(e => e.getBoundingClientRect());
    note('over each other: ' + r.filter((a, i) => r.some((b, j) => i !== j && a.left < b.right &&
      b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length);
    const box = document.querySelector('.placeholder rect');
    box.dispatchEvent(new MouseEvent('click'));
    note('told: ' + document.getElementById('details').textContent);
    note('left: ' + all('#picture g:not(.dim)'));
    box.dispatchEvent(new MouseEvent('click'));
    note('left again: ' + all('#picture g:not(.dim)'));
    document.getElementById('find').value = 'scale.in_place';
    document.getElementById('find').dispatchEvent(new Event('input'));
    note('found: ' + all('#picture g:not(.dim)'));
  )js"));
  if (dom.find("</html>") == std::string::npos) {
    MESSAGE("SKIPPED: graph/picture in a browser: Chromium does not start here");
  } else {
    CAPTURE(dom.substr(dom.rfind("</svg>")));
    const auto users = g.users()[0];
    const std::size_t nodes = g.nodes.size() + 1;
    CHECK(dom.find("drawn: " + std::to_string(nodes) + " " + std::to_string(edges_of(g)) + " 3<") !=
          std::string::npos);
    CHECK(dom.find("over each other: 0<") != std::string::npos);
    CHECK(dom.find("told: %__script__b__odd_____i = placeholder") != std::string::npos);
    CHECK(dom.find("left: " + std::to_string(1 + users.size()) + "<") != std::string::npos);
    CHECK(dom.find("left again: " + std::to_string(nodes) + "<") != std::string::npos);
    CHECK(dom.find("found: 1<") != std::string::npos);
    CHECK(dom.find("&lt;/script&gt;&lt;b&gt;\"odd\" &amp; &lt;i&gt;") != std::string::npos);
  }
#endif
}
