// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/source/emit.hpp"
#include "ashlar/chip/source/portable.hpp"
#include "ashlar/chip/source/products.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/graph/detail/identifier.hpp"
#include "ashlar/graph/detail/untouched.hpp"
#include "ashlar/graph/fused.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/tiles.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/tile/copies.hpp"
#include "ashlar/plan/arena.hpp"
#include "ashlar/tile/passes/pipeline.hpp"

/// The backend that writes a graph as C++: a model in one source file.
namespace ashlar::graph {

/// What cannot be written as source.
struct source_error final : error {
  std::string call;    ///< of the graph; empty: the graph as a whole
  std::string reason;  ///< what is wrong; what to do

  source_error(std::string_view node, std::string why,
               std::source_location at = std::source_location::current())
      : error(at), call(node), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::graph::aot: " + (call.empty() ? "" : call + ": ") + reason;
  }
};

struct aot_options {
  std::string name = "model";  ///< of the function; a C++ identifier
  /// Parameters and constants of up to so many bytes are in the file; larger ones are arguments of
  /// the function, and so is what the graph writes to.
  std::size_t embed_bytes = std::size_t{1} << 20;
  fusion_options fusion{};
};

/// A source file, and what its caller has to give it.
///
/// ```
/// extern "C" int model(const void* const* in, void* const* out, void* const* parameters,
///                      void* arena);
/// ```
/// It returns 0, or 1 where a requirement of an operator does not hold: an index out of range. One
/// call at a time. `in` and `out` are dense and in the graph's order; `arena` has `arena_bytes`
/// bytes at a multiple of 64, and nothing in it is kept between calls. What the graph writes to,
/// parameters, an optimizer's state or arguments, the function writes to where it is given.
struct written_source {
  std::string text;
  std::int64_t arena_bytes = 0;  ///< also the file's `extern "C" const long long model_arena_bytes`
  plan::arena arena{};           ///< of the intermediate values, with the bound and the ratio
  std::vector<plan::lifetime> lifetimes{};  ///< of each value in the arena, in launches
  /// To be given, where each one's storage begins; constants of products alone in their order.
  std::vector<tensor_handle> parameters{};
  std::vector<std::string> parameter_names{};  ///< as the graph calls them
  std::size_t launches = 0, kernels = 0;
};

namespace detail {

/// Memory in which every block has addresses of its own, until all is over.
class never_again final : public memory::resource {
 public:
  struct block {
    std::byte* at;
    std::size_t bytes;
  };
  never_again() = default;
  ~never_again() {
    for (const block& b : blocks) {
      chip::portable::memory::free(b.at, b.bytes);
    }
  }
  using memory::resource::allocate;
  std::byte* allocate(std::size_t bytes) override {
    if (bytes == 0) {
      return nullptr;
    }
    std::byte* const p = chip::portable::memory::allocate(bytes);
    if (p == nullptr) {
      throw memory::out_of_memory(bytes, 0, 0);
    }
    std::fill_n(p, bytes, std::byte{0});
    blocks.push_back({p, bytes});
    return p;
  }
  void deallocate(std::byte*, std::size_t) noexcept override {}

  std::vector<block> blocks{};
};

class source_writer {
 public:
  source_writer(const graph& g, aot_options options) : options_(std::move(options)) {
    if (!is_identifier(options_.name)) {
      throw source_error("", "'" + options_.name + "' cannot be a function's name in C++");
    }
    const context<chip::portable>::use_allocator here(memory_);
    const auto compiled = tiles<chip::portable>{options_.fusion}.compile(g);
    run(compiled.source());
  }

  [[nodiscard]] written_source write() {
    written_source made;
    plan(made);
    std::vector<chip::source::function> functions;
    for (std::size_t i = 0; i < log_.programs.size(); ++i) {
      functions.push_back({log_.programs[i], options_.name + "_kernel_" + std::to_string(i)});
    }
    std::string calls;
    for (const chip::source::launch& l : log_.launches) {
      call(calls, l, made);
    }
    made.text = chip::source::emit(functions);
    made.text += embedded_;
    made.text += "\nextern \"C\" const long long " + options_.name + "_arena_bytes;\n";
    made.text += "extern \"C\" const long long " + options_.name +
                 "_arena_bytes = " + std::to_string(made.arena_bytes) + ";\n\n";
    made.text +=
        "extern \"C\" int " + options_.name +
        "(const void* const* in, void* const* out, void* const* parameters, void* arena);\n"
        "extern \"C\" int " +
        options_.name +
        "(const void* const* in, void* const* out, void* const* parameters, void* arena) {\n"
        "  static_cast<void>(in);\n  static_cast<void>(out);\n"
        "  static_cast<void>(parameters);\n  static_cast<void>(arena);\n" +
        calls + "  return broken.exchange(0) != 0 ? 1 : 0;\n}\n";
    made.launches = log_.launches.size();
    made.kernels = log_.programs.size();
    return made;
  }

 private:
  enum class place : std::uint8_t { arena, input, output, parameter };
  struct region {
    place what = place::arena;
    std::size_t number = 0;  ///< among inputs, outputs, parameters or values in the arena
    std::size_t bytes = 0;
  };

  static const std::byte* root_of(const tensor_handle& x) { return x.body()->root().data; }

  /// Runs the graph once on zeros and takes down its launches.
  void run(const graph& g) {
    const untouched outside(g);
    const chip::source::launch_log::listening on(log_);
    std::vector<tensor_handle> at(g.values.size());
    for (const node& n : g.nodes) {
      if (n.kind == node_kind::placeholder) {
        tensor_handle x =
            detail::allocate(context<chip::portable>::current(),
                             contiguous_like(g.spec(n.out[0]), g.spec(n.out[0]).type));
        note(x, {place::input, inputs_++, 0});
        at[static_cast<std::size_t>(n.out[0])] = std::move(x);
        continue;
      }
      if (n.kind != node_kind::call) {
        if (regions_.find(root_of(n.data)) == regions_.end()) {
          const tensor_body& root = n.data.body()->root();
          note(n.data, {place::parameter, parameters_.size(), root.bytes});
          parameters_.push_back(n.data);
          names_.push_back(n.name);
          written_.push_back(outside.has(root));
          constant_.push_back(n.kind == node_kind::constant && !written_.back());
        }
        at[static_cast<std::size_t>(n.out[0])] = n.data;
        continue;
      }
      run(n, at);
    }
    for (const value_id v : g.outputs) {
      const tensor_handle x = own(at[static_cast<std::size_t>(v)]);
      note(x, {place::output, outputs_++, 0});
      kept_.push_back(x);
    }
    refuse_copies("");
  }
  /// Elements that went between host and chip without a launch.
  void refuse_copies(std::string_view call) const {
    if (log_.copied) {
      throw source_error(call,
                         "it reads elements on the host or brings some to the chip; what is done "
                         "may depend on them, and no launch says it");
    }
  }
  void run(const node& n, std::vector<tensor_handle>& at) {
    std::vector<tensor_handle> in;
    for (const value_id v : n.in) {
      in.push_back(at[static_cast<std::size_t>(v)]);
    }
    std::vector<tensor_handle> out(n.out.size());
    const std::size_t before = log_.launches.size();
    try {
      n.op->run(in, n.attributes, out);
    } catch (const error&) {
      refuse_copies(n.op->name);  // zeros, where it expects something else
      throw;
    }
    refuse_copies(n.op->name);
    bool elements = n.op->writes != 0;
    for (std::size_t r = 0; r < out.size(); ++r) {
      elements = elements || out[r].size() > 0;
      at[static_cast<std::size_t>(n.out[r])] = std::move(out[r]);
    }
    if (log_.launches.size() == before && elements && !n.op->view && n.op->name != "blank") {
      throw source_error(n.op->name,
                         "it launches no tile program on chip::portable; give it one, or "
                         "decompose it");
    }
  }
  void note(const tensor_handle& x, region r) {
    if (x.size() > 0) {
      regions_[root_of(x)] = r;
    }
  }

  /// An output as a dense tensor of its own.
  tensor_handle own(const tensor_handle& x) {
    const auto known = regions_.find(root_of(x));
    const bool its_own = known == regions_.end() && x.contiguous() && x.bytes() == root_of(x);
    if (x.size() == 0 || its_own) {
      return x;
    }
    const auto copied = [&]<class T>(std::type_identity<T>) -> tensor_handle {
      using X = tensor<T, key_set<keys::backend<chip::portable>>>;
      return ashlar::call<ops::clone>(X(x));
    };
    switch (x.spec().type) {
      case dtype::float32:
        return copied(std::type_identity<float>());
      case dtype::float64:
        return copied(std::type_identity<double>());
      case dtype::int32:
        return copied(std::type_identity<std::int32_t>());
      case dtype::int64:
        return copied(std::type_identity<std::int64_t>());
      default:
        throw source_error("",
                           "an output that is an argument, a view or another output is copied, "
                           "and only float, double, int32 and int64 are; return a result");
    }
  }

  /// The block that an address lies in.
  [[nodiscard]] std::pair<const std::byte*, std::size_t> block_of(const std::byte* p) const {
    for (const tensor_handle& x : parameters_) {
      const tensor_body& root = x.body()->root();
      if (p >= root.data && p < root.data + root.bytes) {
        return {root.data, root.bytes};
      }
    }
    for (const never_again::block& b : memory_.blocks) {
      if (p >= b.at && p < b.at + b.bytes) {
        return {b.at, b.bytes};
      }
    }
    throw source_error("", "a launch reads memory that is no value of the graph");
  }

  void plan(written_source& made) {
    std::int64_t step = 0;
    for (const chip::source::launch& l : log_.launches) {
      for (const tile::argument& a : l.arguments) {
        if (a.rank < 0 || a.data == nullptr) {
          continue;
        }
        const auto [start, bytes] = block_of(a.data);
        const auto [at, fresh] =
            regions_.try_emplace(start, region{place::arena, made.lifetimes.size(), bytes});
        if (at->second.what != place::arena) {
          continue;
        }
        if (fresh) {
          made.lifetimes.push_back({step, step, static_cast<std::int64_t>(bytes)});
        }
        made.lifetimes[at->second.number].last = step;
      }
      ++step;
    }
    made.arena = plan::plan_arena(made.lifetimes, 64);
    made.arena_bytes = made.arena.bytes;
    pack();
    given_.assign(parameters_.size(), -1);
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (written_[i] || parameters_[i].body()->root().bytes > options_.embed_bytes) {
        given_[i] = static_cast<std::int64_t>(made.parameters.size());
        made.parameters.push_back(stored(i));
        made.parameter_names.push_back(names_[i]);
      } else {
        embed(i);
      }
    }
  }

  /// What the file gets of parameter `i`.
  [[nodiscard]] const tensor_handle& stored(std::size_t i) const {
    return packed_[i] ? packed_[i] : parameters_[i];
  }

  /// The number of the parameter that an argument is; none where it is something else.
  [[nodiscard]] std::optional<std::size_t> parameter_of(const tile::argument& a) const {
    if (a.rank < 0 || a.data == nullptr) {
      return std::nullopt;
    }
    const region& r = regions_.at(block_of(a.data).first);
    return r.what == place::parameter ? std::optional(r.number) : std::nullopt;
  }

  /// Constants that are right sides of products and nothing else, in the order in which those read
  /// them.
  void pack() {
    packed_.assign(parameters_.size(), {});
    std::vector<const tile::argument*> seen(parameters_.size());
    std::vector<bool> fits = constant_;
    for (const chip::source::launch& l : log_.launches) {
      const tile::program better = tile::passes::optimise(log_.programs[l.program]);
      for (std::size_t k = 0; k < l.arguments.size(); ++k) {
        const tile::argument& b = l.arguments[k];
        if (const auto i = parameter_of(b); i && fits[*i]) {
          const int left = chip::source::left_of_packable(better, static_cast<int>(k));
          fits[*i] = left >= 0 && whole(b, *i) &&
                     follows(l.arguments[static_cast<std::size_t>(left)], b) &&
                     (seen[*i] == nullptr ||
                      (seen[*i]->extents == b.extents && seen[*i]->strides == b.strides));
          seen[*i] = &b;
        }
      }
    }
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (fits[i] && seen[i] != nullptr) {
        packed_[i] = panels_of(*seen[i]);
      }
    }
  }
  /// Whether a view is all of parameter `i`, as one matrix.
  [[nodiscard]] bool whole(const tile::argument& b, std::size_t i) const {
    const auto rank = static_cast<std::size_t>(b.rank);
    std::int64_t size = 1;
    for (std::size_t axis = 0; axis < rank; ++axis) {
      if (axis + 2 < rank && b.extents[axis] != 1) {
        return false;
      }
      size *= b.extents[axis];
    }
    const tensor_body& root = parameters_[i].body()->root();
    return rank >= 2 && size > 0 && b.element == dtype::float32 && b.data == root.data &&
           size == parameters_[i].spec().size;
  }
  /// Whether the rows of a left side lie in one piece and are as long as the right side is deep.
  static bool follows(const tile::argument& a, const tile::argument& b) {
    const auto last = static_cast<std::size_t>(a.rank) - 1;
    return a.strides[last] == 1 &&
           a.extents[last] == b.extents[static_cast<std::size_t>(b.rank) - 2];
  }
  static tensor_handle panels_of(const tile::argument& b) {
    constexpr std::int64_t width = chip::source::packed_width;
    const auto rank = static_cast<std::size_t>(b.rank);
    const std::int64_t deep = b.extents[rank - 2];
    const std::int64_t columns = b.extents[rank - 1];
    const tensor_spec spec =
        contiguous_spec(dtype::float32, shape{ceil_div(columns, width), deep, width}.span());
    tensor_handle made = detail::allocate(context<chip::portable>::current(), spec);
    const auto* const from = reinterpret_cast<const float*>(b.data);
    auto* const to = reinterpret_cast<float*>(made.bytes());
    std::fill_n(to, spec.size, 0.0f);
    for (std::int64_t k = 0; k < deep; ++k) {
      for (std::int64_t n = 0; n < columns; ++n) {
        to[(n / width * deep + k) * width + n % width] =
            from[k * b.strides[rank - 2] + n * b.strides[rank - 1]];
      }
    }
    return made;
  }

  void embed(std::size_t i) {
    const tensor_body& root = stored(i).body()->root();
    std::vector<std::uint32_t> words((root.bytes + 3) / 4);
    if (root.bytes > 0) {
      std::memcpy(words.data(), root.data, root.bytes);
    }
    embedded_ += "\nalignas(64) static std::uint32_t " + options_.name + "_data_" +
                 std::to_string(i) + "[] = {";
    std::array<char, 16> digits{};
    for (std::size_t k = 0; k < words.size(); ++k) {
      embedded_ += k % 8 == 0 ? "\n    " : " ";
      const auto end = std::to_chars(digits.begin(), digits.end(), words[k], 16).ptr;
      embedded_ += "0x";
      embedded_.append(digits.data(), end);
      embedded_ += "u,";
    }
    embedded_ += "};\n";
  }

  void call(std::string& text, const chip::source::launch& l, const written_source& made) const {
    text += "  {\n    tile_argument a[] = {\n";
    for (const tile::argument& a : l.arguments) {
      text += "        {" + address(a, made) + ", {";
      list(text, a.extents);
      text += "}, {";
      list(text, a.strides);
      text += "}, ";
      const auto constant = parameter_of(a);
      number(text, constant && packed_[*constant] ? 1 : a.bits);
      text += "},\n";
    }
    text += "    };\n    " + options_.name + "_kernel_" + std::to_string(l.program) + "(a, " +
            std::to_string(l.grid[0]) + ", " + std::to_string(l.grid[1]) + ", " +
            std::to_string(l.grid[2]) + ");\n  }\n";
  }
  [[nodiscard]] std::string address(const tile::argument& a, const written_source& made) const {
    if (a.rank < 0 || a.data == nullptr) {
      return "nullptr";
    }
    const auto [start, bytes] = block_of(a.data);
    const region& r = regions_.at(start);
    std::int64_t offset = a.data - start;
    std::string base;
    switch (r.what) {
      case place::arena:
        offset += made.arena.offsets[r.number];
        base = "static_cast<char*>(arena)";
        break;
      case place::input:
        base = "const_cast<char*>(static_cast<const char*>(in[" + std::to_string(r.number) + "]))";
        break;
      case place::output:
        base = "static_cast<char*>(out[" + std::to_string(r.number) + "])";
        break;
      case place::parameter:
        base = given_[r.number] >= 0
                   ? "static_cast<char*>(parameters[" + std::to_string(given_[r.number]) + "])"
                   : "reinterpret_cast<char*>(" + options_.name + "_data_" +
                         std::to_string(r.number) + ")";
        break;
    }
    return base + " + " + std::to_string(offset);
  }
  static void number(std::string& text, std::int64_t n) {
    // The smallest number has no literal of its own.
    text += n == std::numeric_limits<std::int64_t>::min() ? "INT64_MIN"
                                                          : "INT64_C(" + std::to_string(n) + ")";
  }
  static void list(std::string& text, std::span<const std::int64_t> numbers) {
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      text += i == 0 ? "" : ", ";
      number(text, numbers[i]);
    }
  }

  aot_options options_;
  never_again memory_{};
  chip::source::launch_log log_{};
  std::vector<tensor_handle> parameters_{}, kept_{};
  std::vector<std::string> names_{};
  std::vector<bool> constant_{}, written_{};  ///< of a parameter
  std::vector<tensor_handle> packed_{};  ///< a parameter in the order of its products; else empty
  std::vector<std::int64_t> given_{};    ///< place among the arguments; -1: in the file
  std::map<const std::byte*, region> regions_{};
  std::size_t inputs_ = 0, outputs_ = 0;
  std::string embedded_{};
};

}  // namespace detail

/// Writes a graph that was captured on `chip::portable` as one C++ source file: its fused kernels,
/// one function that launches them, and the places of all intermediate values in one arena.
///
/// The file includes standard headers alone; compile it with `chip::source::flags`. It is what the
/// graph is for the captured shapes. What the graph writes to outside of itself is the file's to
/// write, and is left as it was here. Results have the bits of `tiles<chip::portable>` and of the
/// host's strips, but for what `chip::source::emit` excepts.
/// Throws: `source_error`, for a name too; what `chip::source::emit` throws.
/// Cost:   one run of the graph, with all its values in memory at once.
[[nodiscard]] inline written_source write_source(const graph& g, aot_options options = {}) {
  return detail::source_writer(g, std::move(options)).write();
}

}  // namespace ashlar::graph
