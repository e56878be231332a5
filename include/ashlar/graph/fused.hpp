// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/blocks.hpp"
#include "ashlar/chip/executable.hpp"
#include "ashlar/dispatch/allocate.hpp"
#include "ashlar/dispatch/device.hpp"
#include "ashlar/dispatch/queues.hpp"
#include "ashlar/graph/fused_blocks.hpp"
#include "ashlar/graph/fused_body.hpp"
#include "ashlar/graph/fused_products.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/operation.hpp"

/// Calls that have become one kernel of a chip.
namespace ashlar::graph {

/// What a fused kernel is made of.
struct fused_calls {
  graph body;                ///< placeholders, then calls; its outputs are the kernel's
  bool by_rows = false;      ///< calls work on whole rows, the last axis
  bool by_blocks = false;    ///< operators' kernels, block by block, in place of a program
  std::int32_t domain = 0;   ///< a value of the body that has the shape that is walked
  std::vector<bool> lost{};  ///< of each output: it has lost the last axis
};

namespace detail {

/// Elements of each tile of a kernel that reads `inputs` and writes `outputs` views.
template <class C>
std::int64_t tile_elements(int inputs, int outputs) {
  constexpr std::int64_t most = std::int64_t{1} << 14;
  if constexpr (RunsTiles<C>) {
    return chip::blocks_of<C>::row(C::description, {.rows = 1024,
                                                    .elements = most,
                                                    .inputs = inputs + 1,
                                                    .outputs = outputs,
                                                    .element = dtype::float32});
  } else {
    return 4096;  // what is between calls stays in the first cache, strip by strip
  }
}
/// The longest rows that one tile may hold; whether a chip's scratchpad has room for what a kernel
/// needs of them is known when it is compiled.
template <class C>
constexpr std::int64_t longest_row() {
  constexpr std::int64_t most = std::int64_t{1} << 14;
  if constexpr (RunsTiles<C>) {
    constexpr std::int64_t tiles = 16;  // at the same time, of four bytes
    return std::min(most, static_cast<std::int64_t>(C::description.scratchpad_bytes) / (4 * tiles));
  } else {
    return most;
  }
}

/// Elements of some type that nobody has written yet.
template <class C>
tensor_handle allocate(context<C>& on, const tensor_spec& spec) {
  const auto make = [&]<class T>(std::type_identity<T>) -> tensor_handle {
    tensor<T, key_set<keys::backend<C>>> x =
        allocate_tensor<tensor<T, key_set<keys::backend<C>>>>(on, spec);
    x.body()->spec.type = spec.type;
    return x;
  };
  switch (size_of(spec.type)) {
    case 1:
      return make(std::type_identity<std::uint8_t>());
    case 2:
      return make(std::type_identity<float16>());
    case 4:
      return make(std::type_identity<float>());
    default:
      return make(std::type_identity<double>());
  }
}

}  // namespace detail

/// Several calls as one tile program on chip `C`: what is between them is never in memory.
///
/// The program is written where the kernel is called with a new geometry, and kept. Where rows are
/// longer than a tile, or the chip cannot run the program, the calls run one by one instead.
template <class C>
class fused_kernel final : public operation {
 public:
  explicit fused_kernel(fused_calls calls) : calls_(std::move(calls)) {
    const graph& body = calls_.body;
    text_ = "fused";
    char before = '(';
    for (const node& n : body.nodes) {
      if (n.kind == node_kind::placeholder) {
        argument_types_.push_back(body.spec(n.out[0]).type);
      } else {
        text_ += before;
        text_ += n.op->name;
        before = ' ';
      }
    }
    text_ += ')';
    for (const value_id v : body.outputs) {
      result_types_.push_back(body.spec(v).type);
    }
    never_cut_.assign(argument_types_.size(), true);
    for (const node& n : body.nodes) {
      multiplies_ = multiplies_ || detail::is_product_of_rows(n);
      for (std::size_t k = 0; k < n.in.size(); ++k) {
        const auto v = static_cast<std::size_t>(n.in[k]);
        if (v < never_cut_.size() && !(k > 0 && detail::is_product_of_rows(n))) {
          never_cut_[v] = false;
        }
      }
    }
    name = text_;
    argument_types = argument_types_;
    result_types = result_types_;
    elementwise = !calls_.by_rows && !multiplies_;
    if (multiplies_ && !calls_.by_blocks) {
      roles_.emplace(body);
    }
    id = &op_id<fused_kernel>;
  }

  /// The kernel that an operation is; null where it is another one.
  [[nodiscard]] static const fused_kernel* from(const operation& op) {
    return op.id == &op_id<fused_kernel> ? static_cast<const fused_kernel*>(&op) : nullptr;
  }

  [[nodiscard]] const fused_calls& calls() const { return calls_; }
  /// The program for arguments of these specs; none where the calls run one by one or there are no
  /// elements.
  [[nodiscard]] std::optional<tile::program> program(std::span<const tensor_spec> in) const {
    const std::lock_guard hold(mutex_);
    const plan& p = plan_for(in);
    return p.code ? std::optional(p.code->program()) : std::nullopt;
  }
  /// Why the calls run one by one for arguments of these specs; empty where they do not.
  [[nodiscard]] std::string obstacle(std::span<const tensor_spec> in) const {
    const std::lock_guard hold(mutex_);
    return plan_for(in).obstacle;
  }

  void run(std::span<const tensor_handle> in, std::span<const attribute>,
           std::span<tensor_handle> out) const override {
    int ordinal = -1;
    for (const tensor_handle& x : in) {
      if (ordinal >= 0 && x.ordinal() != ordinal) {
        throw device_error(std::string(name), {C::description.name, ordinal},
                           {C::description.name, x.ordinal()});
      }
      ordinal = x.ordinal();
    }
    if constexpr (device_count<C> > 1) {
      const on_device<C> there(ordinal < 0 ? context<C>::current().ordinal : ordinal);
      run_here(in, out);
    } else {
      run_here(in, out);
    }
  }

  [[nodiscard]] std::vector<tensor_spec> meta(std::span<const tensor_spec> in,
                                              std::span<const attribute>) const override {
    const std::vector<tensor_spec> specs = specs_of(in);
    std::vector<tensor_spec> results;
    for (const value_id v : calls_.body.outputs) {
      results.push_back(specs[static_cast<std::size_t>(v)]);
    }
    return results;
  }

 private:
  /// How the kernel runs for arguments of certain specs.
  struct plan {
    std::vector<tensor_spec> in;
    std::vector<tensor_spec> out{};
    std::shared_ptr<const chip::executable<C>> code{};  ///< null: the calls run one by one
    std::optional<detail::block_plan> cuts{};
    std::optional<detail::tile_layout> layout{};  ///< none of a kernel with products
    detail::tile_blocks blocks{};
    tile::grid grid{};
    std::vector<tile::argument> arguments{};
    std::string obstacle{};  ///< why there is no program
    bool empty = false;
    bool proven = false;  ///< it has run once
  };

  std::vector<tensor_spec> specs_of(std::span<const tensor_spec> in) const {
    const graph& body = calls_.body;
    std::vector<tensor_spec> specs(body.values.size());
    std::vector<tensor_spec> given;
    std::size_t next = 0;
    for (const node& n : body.nodes) {
      if (n.kind == node_kind::placeholder) {
        specs[static_cast<std::size_t>(n.out[0])] = in[next++];
        continue;
      }
      given.clear();
      for (const value_id v : n.in) {
        given.push_back(specs[static_cast<std::size_t>(v)]);
      }
      specs[static_cast<std::size_t>(n.out[0])] = n.op->meta(given, n.attributes)[0];
      specs[static_cast<std::size_t>(n.out[0])].type = n.op->result_types[0];
    }
    return specs;
  }

  plan& plan_for(std::span<const tensor_spec> in) const {
    for (const auto& p : plans_) {
      bool same = true;
      for (std::size_t k = 0; same && k < in.size(); ++k) {
        same = same_shape(p->in[k], in[k]) && p->in[k].stride == in[k].stride;
      }
      if (same) {
        return *p;
      }
    }
    constexpr std::size_t most = 16;
    if (plans_.size() == most) {
      plans_.erase(plans_.begin());
    }
    plans_.push_back(std::make_unique<plan>(make_plan(in, first_elements(in))));
    return *plans_.back();
  }

  /// Elements of a tile to begin with: where there is not room for so many, plans try fewer.
  std::int64_t first_elements(std::span<const tensor_spec> in) const {
    if (roles_) {
      return std::numeric_limits<std::int64_t>::max();
    }
    const std::int64_t one = detail::tile_elements<C>(static_cast<int>(argument_types_.size()),
                                                      static_cast<int>(result_types_.size()));
    if constexpr (RunsTiles<C>) {
      constexpr std::int64_t rows = 8;  // what all rows share is loaded once for so many
      constexpr std::int64_t most = std::int64_t{1} << 14;
      const std::int64_t columns = calls_.by_rows ? domain_columns(in) : 0;
      return C::description.dma_engines > 0 ? std::max(one, std::min(rows * columns, most)) : one;
    } else {
      return one;
    }
  }
  std::int64_t domain_columns(std::span<const tensor_spec> in) const {
    const tensor_spec walked = specs_of(in)[static_cast<std::size_t>(calls_.domain)];
    return walked.rank == 0 ? 1 : walked[-1];
  }

  /// `elements`: of each tile at most.
  plan make_plan(std::span<const tensor_spec> in, std::int64_t elements) const {
    plan p{.in = {in.begin(), in.end()}};
    const std::vector<tensor_spec> specs = specs_of(in);
    const tensor_spec& walked = specs[static_cast<std::size_t>(calls_.domain)];
    std::vector<tensor_spec> all(in.begin(), in.end());
    for (std::size_t k = 0; k < calls_.body.outputs.size(); ++k) {
      p.out.push_back(specs[static_cast<std::size_t>(calls_.body.outputs[k])]);
      all.push_back(calls_.lost[k] ? geometry::unsqueeze(p.out.back(), p.out.back().rank)
                                   : p.out.back());
    }
    p.empty =
        std::all_of(p.out.begin(), p.out.end(), [](const tensor_spec& s) { return s.size == 0; });
    const bool rows = calls_.by_rows;
    if (p.empty) {
      return p;
    }
    if (calls_.by_blocks && walked.size != 0) {
      // Of what is between calls the largest: the second cache holds several.
      const std::int64_t most = multiplies_ ? 1 << 20 : 1 << 16;
      p.cuts.emplace(calls_.body, specs, shape(walked.shape()), rows, most);
      return p;
    }
    if (roles_) {
      plan_products(p, all, elements);
      return p;
    }
    if (rows && (walked[-1] == 0 || walked[-1] > detail::longest_row<C>())) {
      p.obstacle = "rows of " + std::to_string(walked[-1]) + " elements do not fit into a tile";
      return p;
    }
    p.layout.emplace(all, shape(walked.shape()), rows);
    while (true) {
      p.blocks = p.layout->blocks(elements, rows);
      p.grid = p.layout->grid(p.blocks);
      p.arguments.clear();
      for (std::size_t k = 0; k < all.size(); ++k) {
        p.arguments.push_back(p.layout->argument(k, p.blocks));
        p.arguments.back().element =
            k < in.size() ? argument_types_[k] : result_types_[k - in.size()];
        p.arguments.back().writable = k >= in.size();
      }
      try {
        p.code = code_for(p.blocks);
        p.obstacle.clear();
        return p;
      } catch (const error& e) {
        p.obstacle = e.what();
        // It may be that the tiles do not fit into a scratchpad: smaller ones.
        elements = std::min<std::int64_t>(p.blocks.elements(), elements) / 2;
        if (elements < 16 || (rows && p.blocks.rows == 1)) {
          return p;
        }
      }
    }
  }

  void plan_products(plan& p, std::span<const tensor_spec> all, std::int64_t elements) const {
    if (!roles_->fits) {
      p.obstacle = "an argument is read in two ways";
      return;
    }
    const auto layout = detail::product_layout::of(calls_.body, *roles_, all);
    if (!layout) {
      p.obstacle = "the axes of an argument do not lie evenly";
      return;
    }
    p.arguments = layout->arguments;
    const std::int64_t least =
        std::int64_t{C::description.matrix_unit[0]} * C::description.matrix_unit[1];
    while (true) {
      p.blocks = C::description.dma_engines > 0
                     ? layout->blocks(C::description, roles_->at.size(), elements)
                     : layout->blocks(chip::blocks_of<C>::product(C::description, layout->work()));
      p.grid = {ceil_div(layout->columns, std::int64_t{p.blocks.columns} * p.blocks.parts),
                ceil_div(layout->rows, std::int64_t{p.blocks.rows}), 1};
      try {
        p.code = code_for(p.blocks);
        p.obstacle.clear();
        return;
      } catch (const error& e) {
        p.obstacle = e.what();
        elements = p.blocks.elements() / 2;
        if (elements < least || C::description.dma_engines == 0) {
          return;
        }
      }
    }
  }

  /// Programs are shared by plans whose tiles are alike.
  std::shared_ptr<const chip::executable<C>> code_for(const detail::tile_blocks& blocks) const {
    for (const auto& [known, code] : programs_) {
      if (known == blocks) {
        return code;
      }
    }
    programs_.emplace_back(blocks,
                           std::make_shared<const chip::executable<C>>(
                               roles_ ? detail::write_products(calls_.body, *roles_, name, blocks)
                                      : detail::write_program(calls_.body, name, blocks)));
    return programs_.back().second;
  }

  void run_here(std::span<const tensor_handle> in, std::span<tensor_handle> out) const {
    std::vector<tensor_spec> specs;
    for (const tensor_handle& x : in) {
      specs.push_back(x.spec());
    }
    const std::lock_guard hold(mutex_);
    plan& p = plan_for(specs);
    auto& on = context<C>::current();
    const ashlar::detail::launching<C> here_now(on, name);
    if (!p.code && !p.cuts && !p.empty) {
      return run_calls(in, out);
    }
    for (std::size_t k = 0; k < out.size(); ++k) {
      out[k] = detail::allocate(on, p.out[k]);
    }
    if (p.empty) {
      return;
    }
    if constexpr (!RunsTiles<C>) {
      if (p.cuts) {
        return detail::run_blocks<C>(calls_.body, *p.cuts, calls_.lost, never_cut_, in, out);
      }
    }
    if constexpr (HasQueues<C>) {
      for (const tensor_handle& x : in) {
        ashlar::detail::order_use<false>(on, x);
      }
    }
    while (true) {
      try {
        launch_program(on, p, in, out);
        p.proven = true;
        return;
      } catch (const error& e) {
        // A chip that compiles where it launches says here that tiles do not fit.
        const std::int64_t elements = p.blocks.elements() / 2;
        if (p.proven || elements < 16) {
          throw;
        }
        plan smaller = make_plan(specs, elements);
        if (smaller.code && smaller.blocks != p.blocks) {
          p = std::move(smaller);
          continue;
        }
        p.code = nullptr;
        p.obstacle = e.what();
        return run_calls(in, out);
      }
    }
  }

  void launch_program(context<C>& on, const plan& p, std::span<const tensor_handle> in,
                      std::span<const tensor_handle> out) const {
    std::vector<tile::argument> arguments = p.arguments;
    const auto launch_at = [&](std::span<const std::int64_t> offset) {
      for (std::size_t k = 0; k < arguments.size(); ++k) {
        const tensor_handle& x = k < in.size() ? in[k] : out[k - in.size()];
        arguments[k].data =
            x.bytes() + offset[k] * static_cast<std::int64_t>(size_of(arguments[k].element));
      }
      (*p.code)(on, p.grid, arguments);
    };
    if (p.layout) {
      p.layout->each_launch(launch_at);
    } else {
      launch_at(std::vector<std::int64_t>(arguments.size(), 0));
    }
  }

  /// The calls one by one.
  void run_calls(std::span<const tensor_handle> in, std::span<tensor_handle> out) const {
    const graph& body = calls_.body;
    std::vector<tensor_handle> made(body.values.size());
    std::vector<tensor_handle> given;
    std::size_t next = 0;
    for (const node& n : body.nodes) {
      tensor_handle& to = made[static_cast<std::size_t>(n.out[0])];
      if (n.kind == node_kind::placeholder) {
        to = in[next++];
        continue;
      }
      given.clear();
      for (const value_id v : n.in) {
        given.push_back(made[static_cast<std::size_t>(v)]);
      }
      n.op->run(given, n.attributes, std::span(&to, 1));
    }
    for (std::size_t k = 0; k < out.size(); ++k) {
      out[k] = made[static_cast<std::size_t>(body.outputs[k])];
    }
  }

  fused_calls calls_;
  std::string text_;
  std::vector<dtype> argument_types_, result_types_;
  std::vector<bool> never_cut_;
  bool multiplies_ = false;
  std::optional<detail::product_roles> roles_;  ///< of a program with products
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<plan>> plans_;
  mutable std::vector<std::pair<detail::tile_blocks, std::shared_ptr<const chip::executable<C>>>>
      programs_;
};

}  // namespace ashlar::graph
