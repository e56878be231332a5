// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <atomic>
#include <cmath>
#include <concepts>
#include <memory>
#include <stdexcept>
#include <thread>

#include "ashlar/ops/batch_norm.hpp"
#include "ashlar/ops/operators.hpp"
#include "autograd/support.hpp"

namespace {

/// exp(a + b) and a - b: an operator with two results, the first of which it saves.
struct butterfly {
  static constexpr std::string_view name = "butterfly";
  static constexpr std::array arguments{al::argument{"a"}, al::argument{"b"}};
  static constexpr std::array<al::tensor_spec, 2> meta(const al::tensor_spec& a,
                                                       const al::tensor_spec&) {
    return {al::contiguous_like(a, a.type), al::contiguous_like(a, a.type)};
  }
  struct derivative {
    static constexpr std::array needs{al::result.bit, al::result.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const auto first = al::mul(std::get<0>(g), std::get<0>(saved(al::result)));
      return I == 0 ? al::add(first, std::get<1>(g)) : al::sub(first, std::get<1>(g));
    }
  };
};

/// `a` and the sum of seven numbers.
struct long_list {
  static constexpr std::string_view name = "long_list";
  static constexpr std::array arguments{al::argument{"a"}};
  static constexpr bool elementwise = true;
  static constexpr al::tensor_spec meta(const al::tensor_spec& a, double, double, double, double,
                                        double, double, double) {
    return al::contiguous_like(a, a.type);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      return g;
    }
  };
};
constexpr al::op_function<long_list> many;
/// The last of the numbers is 0.
constexpr struct spelled_list : al::spelled_function<spelled_list> {
  static constexpr auto spell(auto to, const al::Tensor auto& x, double a, double b, double c,
                              double d, double e, double f) {
    return to(many, x, a, b, c, d, e, f, 0.0);
  }
} spelled_many;

/// Its derivative computes in another element type.
struct narrowed {
  static constexpr std::string_view name = "narrowed";
  static constexpr std::array arguments{al::argument{"a"}};
  static constexpr al::tensor_spec meta(const al::tensor_spec& a) {
    return al::contiguous_like(a, a.type);
  }
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      return al::cast<float>(g);
    }
  };
};

/// Functions of a pass that begins another one.
struct nested {
  static constexpr std::string_view name = "nested";
  int depth = 0;
  std::shared_ptr<int> deepest;
  real forward(al::function_context&, const real& x) const { return al::add(x, x); }
  real backward(const al::function_context&, const real& g) const {
    if (depth > 0) {
      const al::grad_mode on(true);
      const real inner = leaf({1});
      al::backward(al::apply_function(nested{depth - 1, deepest}, inner), one());
      CHECK(values(al::gradient(inner)) == std::vector<double>{2});
    } else {
      ++*deepest;
    }
    return al::add(g, g);
  }
};

}  // namespace

template <>
struct al::kernel<long_list, al::keys::backend<al::chip::host>> {
  static void impl(al::context<al::chip::host>&, al::view<double> out, al::view<const double> a,
                   std::same_as<double> auto... numbers) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = a.at(i) + (numbers + ...);
    }
  }
};
template <>
struct al::kernel<butterfly, al::keys::backend<al::chip::host>> {
  template <class T>
  static void impl(al::context<al::chip::host>&, al::view<T> s, al::view<T> d, al::view<const T> a,
                   al::view<const T> b) {
    for (std::int64_t i = 0; i < s.size(); ++i) {
      s.at(i) = std::exp(a.at(i) + b.at(i));
      d.at(i) = a.at(i) - b.at(i);
    }
  }
};

template <>
struct al::kernel<narrowed, al::keys::backend<al::chip::host>> {
  static void impl(al::context<al::chip::host>&, al::view<double> out, al::view<const double> a) {
    al::chip::host_kernels::copy(out, a);
  }
};

TEST_CASE("autograd/engine: a gradient has the element type of what it is the gradient of") {
  const real x = leaf({1, 2});
  al::backward(al::call<narrowed>(x), al::from_values<real>({2}, {0.5, -3}));
  CHECK(values(al::gradient(x)) == std::vector<double>{0.5, -3});
}

TEST_CASE("autograd/engine: nodes run latest first, and leaves at once") {
  const real a = leaf({1});
  const real b = leaf({1});
  const real x = al::mul(a, a);
  const real y = al::mul(b, b);
  const real z = al::mul(x, x);
  const real root = al::add(al::add(x, y), z);
  std::string order;
  const auto note = [&](const real& t, char name) {
    al::register_node_pre_hook(t, [&order, name](auto) { order += name; });
  };
  note(a, 'a');
  note(b, 'b');
  note(x, 'x');
  note(y, 'y');
  note(z, 'z');
  note(root, 'r');
  al::backward(root, one());
  CHECK(order == "rzybxa");  // by age: z is younger than y, and b, a leaf, comes before x
}

TEST_CASE("autograd/engine: grad looks only at what is younger than the inputs") {
  const real a = leaf({2});
  const real old = al::mul(a, a);
  const real mid = al::mul(old, old);
  const real root = al::mul(mid, old);
  int ran = 0;
  al::register_node_pre_hook(old, [&](auto) { ++ran; });
  int seen = 0;
  al::register_hook(mid, [&](const real&) { ++seen; });
  const auto [g] = al::grad(root, one(), {.retain_graph = true}, mid);
  CHECK(values(g) == std::vector<double>{4});
  CHECK(ran == 0);
  CHECK(seen == 1);  // the tensor's hook sees the gradient although its node does not run
  const auto [gm, go] = al::grad(root, one(), {.retain_graph = true}, mid, old);
  CHECK(values(gm) == std::vector<double>{4});
  CHECK(values(go) == std::vector<double>{48});  // 3 old^2
  const real later = al::mul(root, root);
  CHECK_FALSE(std::get<0>(al::grad(root, one(), {.retain_graph = true}, later)));
}

TEST_CASE("autograd/engine: several roots, and leaves by name") {
  const real a = leaf({3});
  const real b = leaf({5});
  const real p = al::mul(a, b);
  const real q = al::mul(a, a);
  const auto [da, db] = al::grad(std::tuple{p, q}, std::tuple{of({10}), one()},
                                 al::backward_options{.retain_graph = true}, a, b);
  CHECK(values(da) == std::vector<double>{56});
  CHECK(values(db) == std::vector<double>{30});
  al::backward(p, one(), {.retain_graph = true}, b);
  CHECK_FALSE(al::gradient(a));
  CHECK(values(al::gradient(b)) == std::vector<double>{3});
  CHECK_THROWS_AS(al::backward(p, one(), {}, p), al::not_recordable);
}

TEST_CASE("autograd/engine: what saved nothing can be walked twice, what saved something not") {
  const real a = leaf({1, 2});
  const real kept = al::scale(al::add(a, a), 3.0);  // attributes stay
  al::backward(kept, of({1, 1}));
  al::backward(kept, of({1, 1}));
  CHECK(values(al::gradient(a)) == std::vector<double>{12, 12});
  const real gone = al::mul(a, a);
  al::backward(gone, of({1, 1}));
  CHECK(has(message_of<al::not_recordable>([&] {
              al::backward(gone, of({1, 1}));
            }),
            "mul: a backward pass released"));
}

TEST_CASE("autograd/engine: an operator with several results") {
  const real a = leaf({0.2, -0.3});
  const real b = leaf({0.5, 0.7});
  const auto both = [](const real& x, const real& y) { return al::op_function<butterfly>{}(x, y); };
  CHECK(al::gradcheck(both, a, b));
  CHECK(al::gradgradcheck(
      [&](const real& x, const real& y) {
        const auto [p, q] = both(x, y);
        return al::mul(p, q);
      },
      a, b));
  const auto [s, d] = both(a, b);
  // One of the results alone: the other's gradient is zeros.
  const auto [only] = al::grad(d, of({1, 1}), {.retain_graph = true}, a);
  CHECK(values(only) == std::vector<double>{1, 1});
  std::size_t parts = 0;
  al::register_node_pre_hook(s, [&](std::span<al::tensor_handle> g) { parts = g.size(); });
  int hooks = 0;
  al::register_hook(s, [&](const real&) { ++hooks; });
  al::backward(al::mul(s, d), of({1, 1}), {.retain_graph = true});
  CHECK(parts == 2);
  CHECK(hooks == 1);
  // Gradients of gradients: the saved result leads back to the operator.
  const auto [first] = al::grad(s, of({1, 1}), {.create_graph = true}, a);
  const auto [second] = al::grad(al::sum(first), b);
  CHECK(values(second) == values(s));
  std::weak_ptr<int> alive;
  {
    const auto [p, q] = al::op_function<butterfly>{}(a, b);
    const auto token = std::make_shared<int>(0);
    alive = token;
    al::register_hook(p, [token](const real&) {});
  }
  CHECK(alive.expired());
}

TEST_CASE("autograd/engine: a pass inside a hook may walk the same graph") {
  const real x = leaf({3});
  const real y = al::mul(x, x);
  const real z = al::mul(y, y);
  std::vector<double> inner;
  al::register_hook(y, [&](const real&) {
    if (inner.empty()) {
      inner = {0};
      inner = values(std::get<0>(al::grad(z, one(), {.retain_graph = true}, x)));
    }
  });
  al::backward(z, one(), {.retain_graph = true});
  CHECK(inner == std::vector<double>{108});
  CHECK(values(al::gradient(x)) == std::vector<double>{108});  // the outer pass was not disturbed
  CHECK_THROWS_AS(al::queue_callback([] {}), al::not_recordable);
}

TEST_CASE("autograd/engine: passes nest ten thousand deep") {
  const auto deepest = std::make_shared<int>(0);
  const real x = leaf({1});
  al::backward(al::apply_function(nested{10000, deepest}, x), one());
  CHECK(*deepest == 1);
  CHECK(values(al::gradient(x)) == std::vector<double>{2});
}

TEST_CASE("autograd/engine: a chain of a million nodes is walked and freed without recursion") {
  const real x = leaf({1});
  const real unit = one();
  real y = x;
  for (int i = 0; i < 1000000; ++i) {
    y = al::mul(y, unit);
  }
  al::backward(y, unit);
  CHECK(values(al::gradient(x)) == std::vector<double>{1});
}

namespace {
/// Branches that meet again, with sums whose order shows in the last bits.
real tangle(const real& x, int width, int depth) {
  std::vector<real> row;
  for (int i = 0; i < width; ++i) {
    row.push_back(al::scale(x, 1.0 + 0.1 * i));
  }
  for (int d = 0; d < depth; ++d) {
    std::vector<real> next;
    for (int i = 0; i < width; ++i) {
      const real& a = row[static_cast<std::size_t>(i)];
      const real& b = row[static_cast<std::size_t>((i * 3 + d) % width)];
      next.push_back(al::exp(al::scale(al::mul(a, b), 0.3, 0.01 * i)));
    }
    row = next;
  }
  real all = row[0];
  for (std::size_t i = 1; i < row.size(); ++i) {
    all = al::add(all, row[i]);
  }
  return al::sum(all);
}
}  // namespace

TEST_CASE("autograd/engine: several threads give the bits of one") {
  const real x = leaf({0.1, -0.2, 0.3, 0.7});
  const real y = tangle(x, 7, 5);
  std::atomic<int> running = 0;
  int hooks = 0;
  al::register_hook(x, [&](const real&) {
    CHECK(++running == 1);
    ++hooks;
    --running;
  });
  const auto [alone] = al::grad(y, al::ones<real>({}), {.retain_graph = true}, x);
  for (const unsigned threads : {2u, 3u, 5u}) {
    const al::autograd::threads_scope several(threads);
    for (int again = 0; again < 5; ++again) {
      const auto [together] = al::grad(y, al::ones<real>({}), {.retain_graph = true}, x);
      CHECK(values(together) == values(alone));
    }
    al::backward(y, {.retain_graph = true});
    CHECK(values(al::gradient(x)) == values(alone));
    al::gradient(x) = {};
    const auto [recorded] = al::grad(y, al::ones<real>({}), {.create_graph = true}, x);
    const auto [second] =
        al::grad(al::sum(recorded), al::ones<real>({}), {.retain_graph = true}, x);
    CHECK(values(recorded) == values(alone));
    CHECK(second.size() == 4);
  }
  CHECK(hooks == 1 + 3 * 8);
}

TEST_CASE("autograd/engine: with several threads the first exception wins, and the graph lives") {
  const real x = leaf({0.1, 0.2});
  const real y = tangle(x, 5, 3);
  const real broken = al::mul(x, x);
  al::hook_handle bad =
      al::register_hook(broken, [](const real&) { throw std::runtime_error("no"); });
  const real root = al::add(y, al::sum(broken));
  const al::autograd::threads_scope several(3);
  CHECK_THROWS_AS(al::backward(root, {.retain_graph = true}), std::runtime_error);
  bad.remove();
  al::gradient(x) = {};
  CHECK_NOTHROW(al::backward(root));
  CHECK(al::gradient(x).size() == 2);
}

TEST_CASE("autograd/engine: two threads may walk one graph that they retain") {
  const real x = leaf({0.5, 0.25});
  const real y = tangle(x, 4, 3);
  const auto expected =
      values(std::get<0>(al::grad(y, al::ones<real>({}), {.retain_graph = true}, x)));
  std::array<std::vector<double>, 3> got;
  std::vector<std::thread> threads;
  for (auto& mine : got) {
    threads.emplace_back([&mine, &y, &x] {
      for (int i = 0; i < 20; ++i) {
        mine = values(std::get<0>(al::grad(y, al::ones<real>({}), {.retain_graph = true}, x)));
        al::backward(y, {.retain_graph = true});
      }
    });
  }
  for (auto& t : threads) {
    t.join();
  }
  for (const auto& mine : got) {
    CHECK(mine == expected);
  }
  // All of them have added to one leaf.
  CHECK(values(al::gradient(x))[0] == doctest::Approx(60 * expected[0]));
}

TEST_CASE("autograd/anomaly: a gradient that is no number is found at the operator that made it") {
  const real x = leaf({0, 1});
  const al::anomaly_mode watch;
  const int line = __LINE__ + 1;
  const real y = al::sqrt(al::mul(x, of({0, 1})));  // 0 * inf
  const real root = al::sum(y);
  try {
    al::backward(root, {.retain_graph = true});
    FAIL("must throw");
  } catch (const al::not_a_number& e) {
    CHECK(e.op == "mul");
    CHECK(e.argument == 0);
    CHECK(static_cast<int>(e.forward.line()) == line);
    CHECK(has(e.what(), "engine_test.cpp"));
  }
  using single = al::tensor<float, real::keys>;
  const auto place_of = [](const real& t) {
    return static_cast<int>(al::autograd::node_of(t, "test").hooked->where.line());
  };
  const real infix = x * x;
  CHECK(place_of(infix) == __LINE__ - 1);
  const real spelled = al::sum(x);
  CHECK(place_of(spelled) == __LINE__ - 1);
  const real listed = al::sum(al::mul(x, x), {0}, true);
  CHECK(place_of(listed) == __LINE__ - 1);
  const real pixels = al::reshape(x, {1, 1, 1, 2});
  CHECK(place_of(pixels) == __LINE__ - 1);
  const real none = of({0}), one = of({1});
  const real of_five = al::batch_norm(pixels, none, one, one, none);
  CHECK(place_of(of_five) == __LINE__ - 1);
  const real of_six = al::batch_norm(pixels, none, one, one, none, 0.5);
  CHECK(place_of(of_six) == __LINE__ - 1);
  const real by_schema = al::op_function<al::ops::batch_norm>{}(pixels, none, one, one, none, 0.5);
  CHECK(place_of(by_schema) == __LINE__ - 1);
  const real of_eight = many(x, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0);
  CHECK(place_of(of_eight) == __LINE__ - 1);
  CHECK(values(of_eight) == std::vector<double>{28, 29});
  const real of_seven = spelled_many(x, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0);
  CHECK(place_of(of_seven) == __LINE__ - 1);
  real over = al::mul(x, x);
  many.in_place(over, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0);
  CHECK(place_of(over) == __LINE__ - 1);
  const real opposite = -x;
  CHECK(place_of(opposite) == __LINE__ - 1);
  const auto narrow = al::from_values<single>({2}, {1, 2});
  const real left = narrow - x, right = x - narrow;
  CHECK(place_of(left) == __LINE__ - 1);
  CHECK(place_of(right) == __LINE__ - 2);
  const real doubled = x * 2.0f;
  CHECK(place_of(doubled) == __LINE__ - 1);
  const real turned = 1 - x;
  CHECK(place_of(turned) == __LINE__ - 1);
  real changed = al::mul(x, x);
  al::scale.in_place(changed, 2.0);  // spelled
  CHECK(place_of(changed) == __LINE__ - 1);
  al::exp.in_place(changed);  // by schema
  CHECK(place_of(changed) == __LINE__ - 1);
  changed *= x;
  CHECK(place_of(changed) == __LINE__ - 1);
  changed /= narrow;
  CHECK(place_of(changed) == __LINE__ - 1);
  changed += 1.0f;
  CHECK(place_of(changed) == __LINE__ - 1);
  {
    const al::anomaly_mode only_places(true, false);
    CHECK_NOTHROW(al::backward(root));
  }
}
