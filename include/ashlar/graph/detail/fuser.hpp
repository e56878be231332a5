// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/graph/fused.hpp"
#include "ashlar/graph/fusion_options.hpp"
#include "ashlar/graph/graph.hpp"

/// Which calls of a graph become one kernel.
namespace ashlar::graph::detail {

/// What fusion asks of a chip.
struct fusion_target {
  std::int64_t fold = 0;     ///< rows up to which sums have the operators' order
  std::int64_t longest = 0;  ///< row that a tile holds
  bool blocks = false;       ///< operators' kernels take turns block by block
  bool products = false;     ///< programs may have products in them
  bool alone = false;        ///< a product or a row that is read once gains by a program of its own
};

/// Groups of calls, grown from each call to those that make its arguments. One class, because
/// whether two groups can join is asked of everything that is known of both.
class fuser {
  using numbers = std::vector<std::int32_t>;

 public:
  fuser(const graph& g, const fusion_options& options, const fusion_target& chip)
      : g_(g), options_(options), chip_(chip), blocks_(chip.blocks), users_(g.users()) {
    era_.resize(g.nodes.size());
    group_.assign(g.nodes.size(), -1);
    part_.resize(g.nodes.size());
    cost_.resize(g.nodes.size());
    std::int32_t era = 0;
    for (std::size_t i = 0; i < g.nodes.size(); ++i) {
      const node& n = g.nodes[i];
      const bool writes = n.kind == node_kind::call && n.op->writes != 0;
      era += writes ? 1 : 0;
      era_[i] = era;
      era += writes ? 1 : 0;  // nothing moves over a write
      if (can_join(i)) {
        grow(i);
      }
    }
  }

  /// The group of a call that runs with others, or gains by a program of its own; -1 for others.
  [[nodiscard]] std::int32_t group_of(std::size_t i) const {
    const std::int32_t at = group_[i];
    if (at < 0) {
      return -1;
    }
    const numbers& members = members_[static_cast<std::size_t>(at)];
    return members.size() > 1 || (chip_.alone && walks_once(members[0])) ? at : -1;
  }

  /// All nodes in an order in which groups can run as one: a group stands as its last member.
  [[nodiscard]] std::vector<std::int32_t> order() const {
    const std::size_t n = g_.nodes.size();
    std::vector<std::int32_t> unit(n);  // a node's place among the units: that of its group's last
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t at = group_of(i);
      unit[i] =
          at < 0 ? static_cast<std::int32_t>(i) : members_[static_cast<std::size_t>(at)].back();
    }
    std::vector<std::set<std::int32_t>> after(n);
    std::vector<int> waits(n, 0);
    for (std::size_t i = 0; i < n; ++i) {
      for (const value_id v : g_.nodes[i].in) {
        const std::int32_t from = unit[static_cast<std::size_t>(maker(v))];
        if (from != unit[i] && after[static_cast<std::size_t>(from)].insert(unit[i]).second) {
          ++waits[static_cast<std::size_t>(unit[i])];
        }
      }
    }
    using key = std::pair<std::int32_t, std::int32_t>;  // era, place
    std::priority_queue<key, std::vector<key>, std::greater<>> ready;
    const auto push = [&](std::int32_t i) { ready.emplace(era_[static_cast<std::size_t>(i)], i); };
    for (std::size_t i = 0; i < n; ++i) {
      if (unit[i] == static_cast<std::int32_t>(i) && waits[i] == 0) {
        push(static_cast<std::int32_t>(i));
      }
    }
    std::vector<std::int32_t> all;
    while (!ready.empty()) {
      const std::int32_t i = ready.top().second;
      ready.pop();
      all.push_back(i);
      for (const std::int32_t next : after[static_cast<std::size_t>(i)]) {
        if (--waits[static_cast<std::size_t>(next)] == 0) {
          push(next);
        }
      }
    }
    return all;
  }

  /// What a group reads and gives, as calls of their own; `in` gets the values it reads.
  [[nodiscard]] fused_calls calls_of(std::int32_t group, std::vector<value_id>& in,
                                     std::vector<value_id>& out) const {
    const auto& members = members_[static_cast<std::size_t>(group)];
    arguments_of(members, in, out);
    fused_calls calls;
    copier to(g_, calls.body);
    for (const value_id v : in) {
      std::string called(1, 'x');
      called.append(std::to_string(calls.body.nodes.size()));
      const std::int32_t place = calls.body.add(
          {.kind = node_kind::placeholder, .name = std::move(called)}, std::array{g_.spec(v)});
      to.set(v, calls.body.nodes[static_cast<std::size_t>(place)].out[0]);
    }
    for (const std::int32_t m : members) {
      to.copy(node_at(m));
    }
    for (const value_id v : out) {
      calls.body.outputs.push_back(to(v));
      calls.lost.push_back(part_[static_cast<std::size_t>(maker(v))].drops_axis);
    }
    calls.by_rows = walks_rows(members);
    calls.by_blocks = blocks_;
    for (const std::int32_t m : members) {
      const value_id v = domain_of(m);
      if (same_shape(g_.spec(v).shape(), shape_of(group).span())) {
        calls.domain = to(v);
      }
    }
    return calls;
  }

 private:
  [[nodiscard]] const node& node_at(std::int32_t i) const {
    return g_.nodes[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] std::int32_t maker(value_id v) const {
    return g_.values[static_cast<std::size_t>(v)].node;
  }
  [[nodiscard]] bool is_row(std::int32_t i) const {
    return part_[static_cast<std::size_t>(i)].what == tile_part::kind::row;
  }
  /// Of a program: the host's own blocks have products among rows.
  [[nodiscard]] bool is_product(std::int32_t i) const {
    return part_[static_cast<std::size_t>(i)].what == tile_part::kind::product;
  }
  [[nodiscard]] bool walks_once(std::int32_t i) const { return is_product(i) || is_row(i); }
  [[nodiscard]] bool has_products(const numbers& members) const {
    return std::any_of(members.begin(), members.end(),
                       [&](std::int32_t m) { return is_product(m); });
  }
  [[nodiscard]] bool walks_rows(const numbers& members) const {
    return std::any_of(members.begin(), members.end(), [&](std::int32_t m) { return is_row(m); });
  }
  /// The value whose shape a call walks.
  [[nodiscard]] value_id domain_of(std::int32_t i) const {
    return is_row(i) ? node_at(i).in[0] : node_at(i).out[0];
  }
  [[nodiscard]] const shape& shape_of(std::int32_t group) const {
    return shapes_[static_cast<std::size_t>(group)];
  }

  bool can_join(std::size_t i) {
    const node& n = g_.nodes[i];
    if (n.kind != node_kind::call || n.op->writes != 0 || n.out.size() != 1 || n.in.empty() ||
        (users_[static_cast<std::size_t>(n.out[0])].empty() && !g_.is_output(n.out[0]))) {
      return false;
    }
    std::vector<tensor_spec> in;
    for (const value_id v : n.in) {
      in.push_back(g_.spec(v));
    }
    tile_part& part = part_[i];
    part = n.op->part(in, n.attributes);
    if (blocks_) {
      if (is_product_of_rows(n) && in[0].rank >= 2 && in[1].rank == 2) {
        part = {.what = tile_part::kind::row};
      }
      return part.what != tile_part::kind::none;
    }
    if (chip_.products && is_product_of_rows(n) && in[0].rank >= 2 && in[1].rank == 2 &&
        is_floating(in[0].type)) {
      const bool alike = std::all_of(in.begin(), in.end(), [&](const tensor_spec& s) {
        return s.type == g_.spec(n.out[0]).type;
      });
      const bool apart = n.in[0] != n.in[1];  // a program reads an argument in one way
      part = {.what = alike && apart ? tile_part::kind::product : tile_part::kind::none};
      cost_[i] = 16;
      return alike && apart;
    }
    if (part.what == tile_part::kind::none) {
      return false;
    }
    if (part.what == tile_part::kind::row) {
      const std::int64_t row = in[0][-1];
      const std::int64_t same = part.sums ? std::min(part.same_up_to, chip_.fold) : part.same_up_to;
      if (row == 0 || row > chip_.longest || (row > same && !options_.reorder_sums)) {
        return false;
      }
    }
    try {
      cost_[i] = cost_of(n);
    } catch (const error&) {
      return false;
    }
    return cost_[i] <= options_.most_instructions;
  }

  /// Instructions that a call takes.
  [[nodiscard]] int cost_of(const node& n) const {
    tile::builder b("cost");
    std::vector<traced> in;
    for (const value_id v : n.in) {
      const dtype element = g_.spec(v).type;
      const int parameter = b.add_parameter({element, 0, false});
      const tile::value_id one = b.emit(
          {.op = tile::opcode::load, .index = parameter, .type = tile::scalar_type(element)});
      in.push_back({&b, b.broadcast(one, tile::tile_type(element, {2, 16}))});
    }
    const int before = b.so_far().size;
    static_cast<void>(n.op->emit(in, n.attributes));
    return b.so_far().size - before;
  }

  /// A group of its own, then with the groups of its arguments where that can be one kernel.
  void grow(std::size_t i) {
    const auto at = static_cast<std::int32_t>(members_.size());
    members_.push_back({static_cast<std::int32_t>(i)});
    shapes_.emplace_back(g_.spec(domain_of(static_cast<std::int32_t>(i))).shape());
    group_[i] = at;
    if (is_product(static_cast<std::int32_t>(i))) {
      return;  // what it reads is whole before it begins
    }
    for (const value_id v : g_.nodes[i].in) {
      const std::int32_t other = group_[static_cast<std::size_t>(maker(v))];
      if (other >= 0 && other != group_[i] &&
          !part_[static_cast<std::size_t>(maker(v))].drops_axis) {
        join(other, group_[i]);
      }
    }
  }

  void join(std::int32_t a, std::int32_t b) {
    numbers both;
    const numbers& first = members_[static_cast<std::size_t>(a)];
    const numbers& second = members_[static_cast<std::size_t>(b)];
    std::merge(first.begin(), first.end(), second.begin(), second.end(), std::back_inserter(both));
    if (era_[static_cast<std::size_t>(both.front())] !=
        era_[static_cast<std::size_t>(both.back())]) {
      return;
    }
    const shape* walked = meeting(a, b);
    int cost = 0;
    for (const std::int32_t m : both) {
      cost += cost_[static_cast<std::size_t>(m)];
    }
    if (walked == nullptr) {
      return;
    }
    std::vector<value_id> in;
    std::vector<value_id> out;
    arguments_of(both, in, out);
    if ((!blocks_ &&
         (cost > options_.most_instructions ||
          in.size() + out.size() > static_cast<std::size_t>(options_.most_arguments))) ||
        !uses_fit(both) || !products_fit(both) || leads_back(both)) {
      return;
    }
    shapes_[static_cast<std::size_t>(a)] = shape(*walked);
    for (const std::int32_t m : second) {
      group_[static_cast<std::size_t>(m)] = a;
    }
    members_[static_cast<std::size_t>(b)].clear();
    members_[static_cast<std::size_t>(a)] = std::move(both);
  }

  /// The shape that two groups can walk together: the same, or rows and one number for each.
  [[nodiscard]] const shape* meeting(std::int32_t a, std::int32_t b) const {
    const shape& x = shape_of(a);
    const shape& y = shape_of(b);
    if (same_shape(x.span(), y.span())) {
      return &x;
    }
    if (blocks_) {  // rows of any lengths, as many
      const bool alike =
          x.rank() == y.rank() && x.rank() > 0 &&
          same_shape(x.span().first(x.span().size() - 1), y.span().first(y.span().size() - 1)) &&
          (walks_rows(members_[static_cast<std::size_t>(a)]) ||
           walks_rows(members_[static_cast<std::size_t>(b)]));
      return alike ? &x : nullptr;
    }
    const auto numbers_of = [&](const shape& few, std::int32_t rows) {
      const shape& all = shape_of(rows);
      if (few.rank() != all.rank() || few.rank() == 0 || few[few.rank() - 1] != 1 ||
          !walks_rows(members_[static_cast<std::size_t>(rows)])) {
        return false;
      }
      return same_shape(few.span().first(few.span().size() - 1),
                        all.span().first(all.span().size() - 1));
    };
    if (numbers_of(x, b) && !walks_rows(members_[static_cast<std::size_t>(a)])) {
      return &y;
    }
    if (numbers_of(y, a) && !walks_rows(members_[static_cast<std::size_t>(b)])) {
      return &x;
    }
    return nullptr;
  }

  [[nodiscard]] bool contains(const numbers& members, std::int32_t i) const {
    return std::binary_search(members.begin(), members.end(), i);
  }

  /// What has lost the last axis is used outside only.
  [[nodiscard]] bool uses_fit(const numbers& members) const {
    for (const std::int32_t m : members) {
      if (is_product_of_rows(node_at(m))) {
        for (std::size_t k = 1; k < node_at(m).in.size(); ++k) {
          if (contains(members, maker(node_at(m).in[k]))) {
            return false;  // a matrix is needed as a whole
          }
        }
      }
      if (part_[static_cast<std::size_t>(m)].drops_axis) {
        for (const std::int32_t user : users_[static_cast<std::size_t>(node_at(m).out[0])]) {
          if (contains(members, user)) {
            return false;
          }
        }
      }
    }
    return true;
  }

  /// Products of one program are two at most, equally deep, with nothing else that walks rows; what
  /// they read is an argument, and nobody else's.
  [[nodiscard]] bool products_fit(const numbers& members) const {
    if (!has_products(members)) {
      return true;
    }
    int products = 0;
    std::int64_t depth = -1;
    for (const std::int32_t m : members) {
      if (!is_product(m)) {
        continue;
      }
      const auto& in = node_at(m).in;
      const std::int64_t own = g_.spec(in[0])[-1];
      if (++products > 2 || (depth >= 0 && own != depth)) {
        return false;
      }
      depth = own;
      for (std::size_t k = 0; k < in.size(); ++k) {
        for (const std::int32_t user : users_[static_cast<std::size_t>(in[k])]) {
          if (!contains(members, user)) {
            continue;
          }
          const auto& theirs = node_at(user).in;
          const bool same_place = is_product(user) && theirs[k] == in[k] &&
                                  std::count(theirs.begin(), theirs.end(), in[k]) == 1;
          if (!same_place) {
            return false;
          }
        }
        if (contains(members, maker(in[k]))) {
          return false;
        }
      }
    }
    return !walks_rows(members);
  }

  void arguments_of(const numbers& members, std::vector<value_id>& in,
                    std::vector<value_id>& out) const {
    for (const std::int32_t m : members) {
      for (const value_id v : node_at(m).in) {
        if (!contains(members, maker(v)) && std::find(in.begin(), in.end(), v) == in.end()) {
          in.push_back(v);
        }
      }
      const value_id made = node_at(m).out[0];
      const auto& readers = users_[static_cast<std::size_t>(made)];
      if (g_.is_output(made) || std::any_of(readers.begin(), readers.end(), [&](std::int32_t r) {
            return !contains(members, r);
          })) {
        out.push_back(made);
      }
    }
  }

  /// Whether what comes out of the calls goes through others and back into them.
  [[nodiscard]] bool leads_back(const numbers& members) const {
    std::vector<bool> seen(g_.nodes.size(), false);
    numbers open;
    const auto follow = [&](std::int32_t i) {
      for (const value_id v : node_at(i).out) {
        for (const std::int32_t user : users_[static_cast<std::size_t>(v)]) {
          // Beyond the last member nothing of this group has been seen yet.
          if (!seen[static_cast<std::size_t>(user)] && user <= members.back()) {
            seen[static_cast<std::size_t>(user)] = true;
            open.push_back(user);
          }
        }
      }
    };
    for (const std::int32_t m : members) {
      follow(m);
    }
    std::vector<bool> entered(members_.size(), false);
    while (!open.empty()) {
      const std::int32_t i = open.back();
      open.pop_back();
      if (contains(members, i)) {
        continue;
      }
      const std::int32_t at = group_[static_cast<std::size_t>(i)];
      if (at < 0) {
        if (reaches(i, members)) {
          return true;
        }
        follow(i);
        continue;
      }
      if (entered[static_cast<std::size_t>(at)]) {
        continue;
      }
      entered[static_cast<std::size_t>(at)] = true;
      for (const std::int32_t m : members_[static_cast<std::size_t>(at)]) {
        if (reaches(m, members)) {
          return true;
        }
        follow(m);
      }
    }
    return false;
  }
  /// Whether a call outside gives something to the members.
  [[nodiscard]] bool reaches(std::int32_t i, const numbers& members) const {
    for (const value_id v : node_at(i).out) {
      for (const std::int32_t user : users_[static_cast<std::size_t>(v)]) {
        if (contains(members, user)) {
          return true;
        }
      }
    }
    return false;
  }

  const graph& g_;
  fusion_options options_;
  fusion_target chip_;
  bool blocks_;
  std::vector<std::vector<std::int32_t>> users_;
  std::vector<std::int32_t> era_, group_;
  std::vector<tile_part> part_;
  std::vector<int> cost_;
  std::vector<numbers> members_;
  std::vector<shape> shapes_;
};

}  // namespace ashlar::graph::detail
