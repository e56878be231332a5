// SPDX-License-Identifier: Apache-2.0
// A compile backend written from outside: capture a model, print it, rewrite it with a pass, print
// it again, compile it, run it.
#include <array>
#include <ashlar/graph.hpp>
#include <ashlar/graph/compile.hpp>
#include <ashlar/ops.hpp>
#include <ashlar/stack.hpp>
#include <cstdio>
#include <span>
#include <string>
#include <vector>
namespace al = ashlar;
namespace graph = ashlar::graph;

namespace my_lib {
/// What the chip's library does in place of `add`: an operator as any other, with a shape rule.
struct custom_add {
  static constexpr std::string_view name = "my_lib::custom_add";
  static constexpr std::array arguments{al::argument{"a"}, al::argument{"b"}};
  static constexpr bool elementwise = true;
  static constexpr al::tensor_spec meta(const al::tensor_spec& a, const al::tensor_spec& b) {
    return al::broadcast(name, a, b);
  }
  static inline int runs = 0;
};
}  // namespace my_lib
template <>
struct al::kernel<my_lib::custom_add, al::keys::backend<al::chip::host>> {
  template <class T>
  static void impl(al::context<al::chip::host>&, al::view<T> out, al::view<const T> a,
                   al::view<const T> b) {
    ++my_lib::custom_add::runs;
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = a.at(i, out) + b.at(i, out);
    }
  }
};

using real = al::stack<al::on<al::chip::host>>::tensor<float>;

/// The pass: two functions say what becomes what.
graph::graph use_my_lib(const graph::graph& g) {
  const real any = al::ones<real>({2, 2});  // types matter; no element is read
  return graph::replace_pattern(
             g, [](const auto& a, const auto& b) { return a + b; },
             [](const auto& a, const auto& b) { return al::call<my_lib::custom_add>(a, b); }, any,
             any)
      .result;
}

/// The backend: `compile` takes a graph and gives something to call.
struct my_backend {
  class program {
   public:
    explicit program(const graph::graph& g) : registers_(g.values.size()), outputs_(g.outputs) {
      for (const graph::node& n : g.nodes) {
        const auto to = static_cast<std::size_t>(n.out.empty() ? 0 : n.out[0]);
        if (n.kind == graph::node_kind::placeholder) {
          arguments_.push_back(to);
        } else if (n.kind != graph::node_kind::call) {
          registers_[to] = n.data;  // a weight stays where it is
        } else {
          steps_.push_back(n);
        }
      }
    }
    std::vector<al::tensor_handle> operator()(std::span<const al::tensor_handle> given) {
      for (std::size_t i = 0; i < arguments_.size(); ++i) {
        registers_[arguments_[i]] = given[i];
      }
      const auto all = [&](const std::vector<graph::value_id>& values) {
        std::vector<al::tensor_handle> tensors;
        for (const graph::value_id v : values) {
          tensors.push_back(registers_[static_cast<std::size_t>(v)]);
        }
        return tensors;
      };
      for (const graph::node& n : steps_) {
        std::vector<al::tensor_handle> made(n.out.size());
        n.op->run(all(n.in), n.attributes, made);
        for (std::size_t r = 0; r < made.size(); ++r) {
          registers_[static_cast<std::size_t>(n.out[r])] = made[r];
        }
      }
      return all(outputs_);
    }

   private:
    std::vector<al::tensor_handle> registers_;
    std::vector<std::size_t> arguments_;
    std::vector<graph::node> steps_;
    std::vector<graph::value_id> outputs_;
  };

  program compile(const graph::graph& g) const {
    const graph::graph mine = use_my_lib(g);
    verify(mine);
    return program(mine);
  }
};
static_assert(graph::Backend<my_backend>);

int main() {
  const real w1 = al::randn<real>({3, 4}, 1);
  const real w2 = al::randn<real>({4, 3}, 2);
  const real bias = al::randn<real>({3}, 3);
  const auto model = [&](const auto& x) {
    const auto hidden = al::relu(al::matmul(x, w1));
    return al::add(x, al::add(al::matmul(hidden, w2), bias));
  };
  const real x = al::randn<real>({2, 3}, 4);

  const graph::graph captured =
      graph::capture(model, graph::named_tensors{{"w1", w1}, {"w2", w2}, {"bias", bias}}, x);
  std::printf("== captured\n%s", to_text(captured).c_str());

  const graph::graph rewritten = use_my_lib(captured);
  std::printf("== rewritten\n%s", to_text(rewritten).c_str());

  auto compiled = graph::compile(model, my_backend{});  // called like `model`
  const bool equal = al::to_vector(compiled(x)) == al::to_vector(model(x));
  static_cast<void>(compiled(al::randn<real>({5, 3}, 5)));  // another shape: compiled anew
  std::printf("== run\n%s, after %d calls of %s\ncompiled %d times: %s\n",
              equal ? "the same bits" : "OTHER BITS", my_lib::custom_add::runs,
              std::string(my_lib::custom_add::name).c_str(),
              static_cast<int>(compiled.statistics().compiled), compiled.why().front().c_str());
  return equal ? 0 : 1;
}
// prints: == captured
// prints: %x0 = placeholder : f32[2, 3]
// prints: %w1 = parameter : f32[3, 4]
// prints: %matmul = matmul %x0, %w1 : f32[2, 4]
// prints: %relu = relu %matmul : f32[2, 4]
// prints: %w2 = parameter : f32[4, 3]
// prints: %matmul_1 = matmul %relu, %w2 : f32[2, 3]
// prints: %bias = parameter : f32[3]
// prints: %add = add %matmul_1, %bias : f32[2, 3]
// prints: %add_1 = add %x0, %add : f32[2, 3]
// prints: return %add_1
// prints: == rewritten
// prints: %x0 = placeholder : f32[2, 3]
// prints: %w1 = parameter : f32[3, 4]
// prints: %matmul = matmul %x0, %w1 : f32[2, 4]
// prints: %relu = relu %matmul : f32[2, 4]
// prints: %w2 = parameter : f32[4, 3]
// prints: %matmul_1 = matmul %relu, %w2 : f32[2, 3]
// prints: %bias = parameter : f32[3]
// prints: %custom_add = my_lib::custom_add %matmul_1, %bias : f32[2, 3]
// prints: %custom_add_1 = my_lib::custom_add %x0, %custom_add : f32[2, 3]
// prints: return %custom_add_1
// prints: == run
// prints: the same bits, after 4 calls of my_lib::custom_add
// prints: compiled 2 times: tensor 0 is [5, 3], not [2, 3]
