// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/trace/chrome.hpp"
#include "ashlar/trace/page.hpp"
#include "ashlar/trace/timeline.hpp"

/// Timelines as pictures: a row per lane, a bar per event, a colour per category.
namespace ashlar::trace {

/// How a picture is laid out [pixels].
struct gantt_layout {
  double width = 1200;     ///< of the bars together
  double row = 20;         ///< height of a lane
  double margin = 120;     ///< left of the bars, for the lanes' names
  double character = 6.5;  ///< width of one; names that do not fit are left to the tool tips
  friend bool operator==(const gantt_layout&, const gantt_layout&) = default;
};

/// Returns: the timeline as an SVG picture that needs nothing else.
///
/// A bar's tool tip has its name, category, begin, duration and details. Lanes without events have
/// no row; events of one lane that overlap cover each other, the later one in front.
/// Cost: one pass and a sort of the lanes; about 150 bytes per event.
[[nodiscard]] inline std::string to_svg(const timeline& t, const gantt_layout& look = {}) {
  constexpr std::array<std::string_view, 8> palette = {"#7fa8d9", "#e8b04f", "#8fc48a", "#d98383",
                                                       "#b39ad1", "#c9b79c", "#8cc7c7", "#c7c7c7"};
  std::map<std::pair<int, int>, std::size_t> rows;
  std::vector<std::string_view> categories;
  for (const event& e : t.events()) {
    rows[{e.process, e.lane}] = 0;
    if (std::ranges::find(categories, e.category) == categories.end()) {
      categories.push_back(e.category);
    }
  }
  std::size_t count = 0;
  for (auto& [lane, row] : rows) {
    row = count++;
  }
  const double ticks = static_cast<double>(std::max<std::int64_t>(t.end(), 1));
  const double legend = look.row * 1.5;
  const double height = legend + look.row * static_cast<double>(count) + look.row;
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"";
  const auto number = [&out](double value) { detail::append_number(out, value); };
  // Hundredths of a pixel: shorter, and the same picture.
  const auto pixel = [&](double value) {
    number(static_cast<double>(static_cast<std::int64_t>(value * 100.0 + 0.5)) / 100.0);
  };
  const auto attribute = [&](std::string_view name, double value) {
    out.append(" ").append(name).append("=\"");
    pixel(value);
    out += '"';
  };
  const auto text = [&](double x, double y, std::string_view words) {
    out += "<text";
    attribute("x", x);
    attribute("y", y);
    out += '>';
    append_html(out, words);
    out += "</text>\n";
  };
  pixel(look.margin + look.width + 10);
  out += '"';
  attribute("height", height);
  out += " font-family=\"sans-serif\" font-size=\"11\">\n";
  const auto colour = [&](std::string_view category) {
    const auto at = std::ranges::find(categories, category) - categories.begin();
    return palette[static_cast<std::size_t>(at) % palette.size()];
  };
  double x = look.margin;
  for (const std::string_view category : categories) {
    out += "<rect";
    attribute("x", x);
    out += " y=\"4\" width=\"12\" height=\"12\" fill=\"";
    out.append(colour(category)).append("\"/>");
    text(x + 16, 14, category.empty() ? "other" : category);
    x += 32 + look.character * static_cast<double>(std::max<std::size_t>(category.size(), 5));
  }
  for (const auto& [lane, row] : rows) {
    std::string name = std::to_string(lane.first) + "/" + std::to_string(lane.second);
    for (const timeline::lane_name& known : t.lanes()) {
      if (known.process == lane.first && known.lane == lane.second) {
        name = known.name;
      }
    }
    text(4, legend + look.row * (static_cast<double>(row) + 0.7), name);
  }
  for (const event& e : t.events()) {
    const double from = look.margin + look.width * static_cast<double>(e.start) / ticks;
    const double wide = look.width * static_cast<double>(e.duration) / ticks;
    const double top = legend + look.row * static_cast<double>(rows[{e.process, e.lane}]) + 1;
    out += "<g><rect";
    attribute("x", from);
    attribute("y", top);
    attribute("width", wide);
    attribute("height", look.row - 2);
    out += " fill=\"";
    out.append(colour(e.category)).append("\" stroke=\"#fff\" stroke-width=\"0.5\"/><title>");
    append_html(out, e.name);
    out += ", ";
    append_html(out, e.category);
    out += ": " + std::to_string(e.start) + " + " + std::to_string(e.duration);
    for (const auto& [key, value] : e.details) {
      out += '\n';
      append_html(out, key);
      out += ": ";
      append_html(out, value);
    }
    out += "</title>";
    if (look.character * static_cast<double>(e.name.size()) < wide) {
      text(from + 2, top + look.row * 0.62, e.name);
    }
    out += "</g>\n";
  }
  text(look.margin, height - 4, "0");
  text(look.margin + look.width - 60, height - 4, std::to_string(t.end()));
  out += "</svg>\n";
  return out;
}

/// Returns: the picture as one HTML page, with a slider for its scale.
[[nodiscard]] inline std::string to_gantt_page(const timeline& t, std::string title,
                                               const gantt_layout& look = {}) {
  const std::string body =
      "<p><label>Scale <input id=\"scale\" type=\"range\" min=\"1\" max=\"20\" value=\"1\" "
      "step=\"0.5\"></label></p>\n<div id=\"picture\">" +
      to_svg(t, look) + "</div>\n";
  return to_html({.title = std::move(title),
                  .body = body,
                  .data = "{}",
                  .script = R"js(
const svg = document.querySelector('#picture svg');
const wide = +svg.getAttribute('width'), high = +svg.getAttribute('height');
svg.setAttribute('viewBox', `0 0 ${wide} ${high}`);
svg.setAttribute('preserveAspectRatio', 'none');
document.getElementById('scale').oninput = e => svg.setAttribute('width', wide * e.target.value);
)js",
                  .style = "#picture{overflow:auto;border:1px solid #ccc}\n"});
}

}  // namespace ashlar::trace
