// SPDX-License-Identifier: Apache-2.0
#include "ashlar/parallel/ddp.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/init.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/parallel/tensor_parallel.hpp"
#include "ashlar/stack.hpp"
#include "parallel/weights.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;
namespace comm = ashlar::comm;
namespace parallel = ashlar::parallel;

namespace {

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using tensor = stack::tensor<float>;

template <class Stack>
struct perceptron {
  using layer = nn::linear<Stack>;
  using layers_type = std::vector<layer>;
  BOOST_HANA_DEFINE_STRUCT(perceptron, (layers_type, layers));

  auto operator()(auto x) const {
    for (std::size_t i = 0; i + 1 < layers.size(); ++i) {
      x = al::tanh(layers[i](x));
    }
    return layers.back()(x);
  }
};
using model = perceptron<stack>;

model make(std::uint64_t seed, std::int64_t width = 13) {
  using layer = nn::linear<stack>;
  model m;
  m.layers = {layer::make(5, width), layer::make(width, width), layer::make(width, 3)};
  nn::initialize(m, seed, nn::init::normal(0.0, 0.3));
  nn::require_grad(m);
  return m;
}

/// The loss of micro-batch number `batch`: data are a function of that number.
tensor loss_of(const model& m, std::uint64_t batch) {
  const auto x = al::randn<tensor>({4, 5}, 1000 + batch);
  const auto y = al::randn<tensor>({4, 3}, 2000 + batch);
  const auto error = m(x) - y;
  return al::mean(error * error);
}

using bits = std::vector<float>;

bits gradients_of(const model& m) {
  bits all;
  for (const auto& p : nn::parameters(m)) {
    const auto v = al::to_vector(al::gradient(p));
    all.insert(all.end(), v.begin(), v.end());
  }
  return all;
}

constexpr int steps = 20;

/// One rank that accumulates all micro-batches of a step by hand.
bits train_alone(int batches, int threads = 1) {
  const al::chip::thread_limit limit(threads);
  auto m = make(1);
  nn::adamw optimizer(m, {.weight_decay = 0.1});
  for (int step = 0; step < steps; ++step) {
    for (int b = 0; b < batches; ++b) {
      al::backward(loss_of(m, static_cast<std::uint64_t>(step * batches + b)));
    }
    nn::scale_grad(m, 1.0 / batches);
    nn::clip_grad_norm(m, 0.5);
    optimizer.step(0.01);
    nn::zero_grad(m);
  }
  return weights_of(m);
}

/// Many ranks with `batches` micro-batches each per step, talking as a stack says; what every rank
/// ends with.
template <class Algorithm = comm::ring>
std::vector<bits> train_together(int ranks, int batches, parallel::ddp_options options = {},
                                 int threads = 1) {
  using talking = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>,
                            al::communicate<comm::threads, Algorithm>>;
  using ddp_type = parallel::ddp_for<talking>;
  static_assert(std::is_same_v<ddp_type, parallel::ddp<tensor, comm::threads, Algorithm>>);
  options.micro_batches = batches;
  return comm::run(ranks, [&](comm::threads& endpoint) {
    const al::chip::thread_limit limit(threads);
    auto m = make(endpoint.rank() == 0 ? 1 : 99);  // rank 0's parameters are what counts
    ddp_type ddp(m, endpoint, options);
    nn::adamw optimizer(m, {.weight_decay = 0.1});
    for (int step = 0; step < steps; ++step) {
      const auto batch = [&](int b) {
        return loss_of(m, static_cast<std::uint64_t>(
                              (step * endpoint.size() + endpoint.rank()) * batches + b));
      };
      for (int b = 0; b + 1 < batches; ++b) {
        const auto quiet = ddp.no_sync();
        al::backward(batch(b));
      }
      al::backward(batch(batches - 1));
      ddp.finish();
      nn::clip_grad_norm(m, 0.5);
      optimizer.step(0.01);
      nn::zero_grad(m);
    }
    return weights_of(m);
  });
}

}  // namespace

TEST_CASE(
    "parallel/ddp: two ranks have the bits of one rank with two micro-batches after 20 steps") {
  const bits alone = train_alone(2);
  CHECK(alone != train_alone(1));
  CHECK(train_alone(2) == alone);
  CHECK(train_alone(2, 2) == alone);  // host threads
  for (const std::size_t bucket : {std::size_t{1}, std::size_t{300}, std::size_t{25} << 20}) {
    CAPTURE(bucket);
    const auto ranks = train_together(2, 1, {.first_bucket_bytes = bucket, .bucket_bytes = bucket});
    CHECK(ranks[0] == alone);
    CHECK(ranks[1] == alone);
  }
  CHECK(train_together(2, 1, {}, 2)[0] == alone);
  CHECK(train_together(1, 2)[0] == alone);  // the same loop on one rank
}

TEST_CASE("parallel/ddp: with ordered reduction any number of ranks has the bits of one") {
  for (const int n : {3, 5}) {
    CAPTURE(n);
    const bits alone = train_alone(n);
    for (const bits& rank : train_together<comm::ordered>(n, 1)) {
      CHECK(rank == alone);
    }
  }
}

TEST_CASE(
    "parallel/ddp: ranks agree with each other whatever the algorithm and the micro-batches") {
  const auto ring = train_together<comm::ring>(3, 2);
  CHECK(ring[0] == ring[1]);
  CHECK(ring[0] == ring[2]);
  CHECK(train_together<comm::ring>(3, 2) == ring);
  // The sum of six gradients in another order: rounding only, through 20 steps of AdamW.
  const bits alone = train_alone(6);
  for (std::size_t i = 0; i < alone.size(); ++i) {
    CHECK(ring[0][i] == doctest::Approx(alone[i]).epsilon(1e-3));
  }
}

TEST_CASE("parallel/ddp: buckets are filled from the last parameter to the first") {
  comm::thread_group group(1);
  auto endpoint = group.endpoint(0);
  const auto m = make(1);  // layers of 65 + 13, 169 + 13 and 39 + 3 elements
  using names = std::vector<std::vector<std::string>>;
  const parallel::ddp one(m, endpoint);
  CHECK(one.buckets() == names{{"layers.2.bias", "layers.2.weight", "layers.1.bias",
                                "layers.1.weight", "layers.0.bias", "layers.0.weight"}});
  const parallel::ddp small(m, endpoint, {.first_bucket_bytes = 12, .bucket_bytes = 200});
  CHECK(small.buckets() == names{{"layers.2.bias"},
                                 {"layers.2.weight", "layers.1.bias"},
                                 {"layers.1.weight"},
                                 {"layers.0.bias", "layers.0.weight"}});
}

TEST_CASE("parallel/ddp: gradients are reduced while the pass runs, in the order of the buckets") {
  const auto logs = comm::run(2, [](comm::threads& inner) {
    comm::logged endpoint(inner);
    const auto m = make(1);
    parallel::ddp ddp(m, endpoint, {.first_bucket_bytes = 1, .bucket_bytes = 1});
    endpoint.clear();
    al::backward(loss_of(m, static_cast<std::uint64_t>(inner.rank())));
    std::vector<std::size_t> sizes;
    for (const auto& message : endpoint.messages()) {
      sizes.push_back(message.bytes);
    }
    return sizes;
  });
  // Six buckets, two messages each: half of the elements (rounded either way), there and back.
  for (const auto& log : logs) {
    REQUIRE(log.size() == 12);
    const std::size_t elements[] = {3, 39, 13, 169, 13, 65};
    for (std::size_t b = 0; b < 6; ++b) {
      CHECK(log[2 * b] + log[2 * b + 1] == 4 * elements[b]);
    }
  }
}

TEST_CASE(
    "parallel/ddp: state in parts sends the bytes of an all-reduce, half of them behind the step") {
  for (const int ranks : {2, 3}) {
    const auto sent = [&](int zero) {
      return comm::run(ranks, [&](comm::threads& inner) {
        comm::logged endpoint(inner);
        const auto m = make(1);
        parallel::ddp ddp(m, endpoint,
                          {.first_bucket_bytes = 40, .bucket_bytes = 200, .zero = zero});
        endpoint.clear();
        const auto bytes = [&] {
          std::size_t sum = 0;
          for (const auto& message : endpoint.messages()) {
            sum += message.bytes;
          }
          return sum;
        };
        al::backward(loss_of(m, static_cast<std::uint64_t>(inner.rank())));
        const std::size_t backward = bytes();
        for (const auto& p : nn::parameters(m)) {
          CHECK(static_cast<bool>(al::gradient(p)) == (zero < 2));
        }
        const double norm = zero > 0 ? ddp.grad_norm() : nn::grad_norm(m);
        endpoint.clear();
        ddp.gather();
        CHECK(std::none_of(ddp.pieces().begin(), ddp.pieces().end(),
                           [](const tensor& p) { return static_cast<bool>(al::gradient(p)); }));
        return std::tuple(backward, backward + bytes(), norm);
      });
    };
    const auto whole = sent(0), parts = sent(1), gradients = sent(2);
    CHECK(parts == gradients);
    for (std::size_t r = 0; r < whole.size(); ++r) {
      CHECK(std::get<1>(parts[r]) == std::get<1>(whole[r]));
      CHECK(std::get<0>(parts[r]) < std::get<0>(whole[r]));
      // The same squares added up in another order, and in double.
      CHECK(std::get<2>(parts[r]) == doctest::Approx(std::get<2>(whole[r])).epsilon(1e-5));
    }
  }
  comm::thread_group group(1);
  auto endpoint = group.endpoint(0);
  CHECK_THROWS_AS((parallel::ddp(make(1), endpoint, {.zero = 3})), al::argument_error);
}

TEST_CASE("parallel/ddp: two passes before a step count each gradient once, in parts or not") {
  const auto norms = comm::run(2, [](comm::threads& endpoint) {
    std::vector<double> found;
    for (const int zero : {1, 2}) {
      const auto m = make(1);
      parallel::ddp ddp(m, endpoint, {.zero = zero});
      for (const std::uint64_t pass : {0u, 2u}) {
        al::backward(loss_of(m, pass + static_cast<std::uint64_t>(endpoint.rank())));
        ddp.finish();
      }
      found.push_back(ddp.grad_norm());
    }
    return found;
  });
  const auto alone = make(1);
  for (std::uint64_t batch = 0; batch < 4; ++batch) {
    al::backward(loss_of(alone, batch));
  }
  nn::scale_grad(alone, 0.5);
  const double expected = nn::grad_norm(alone);
  for (const auto& rank : norms) {
    for (const double norm : rank) {
      CHECK(norm == doctest::Approx(expected).epsilon(1e-5));  // sums of floats in another order
    }
  }
}

TEST_CASE("parallel/ddp: what has no pieces is refused, on every rank alike") {
  comm::run(3, [](comm::threads& endpoint) {
    nn::linear<stack> one = nn::linear<stack>::make(1, 1);  // a weight and a bias for three ranks
    nn::require_grad(one);
    CHECK_THROWS_AS((parallel::ddp(one, endpoint, {.zero = 1})), al::argument_error);
    parallel::ddp whole(one, endpoint);
    CHECK_THROWS_AS(static_cast<void>(whole.grad_norm()), al::argument_error);
  });
}

TEST_CASE("parallel/ddp: without synchronisation gradients stay on their rank") {
  comm::run(2, [](comm::threads& endpoint) {
    const auto m = make(1);
    const auto own = make(1);
    al::backward(loss_of(own, static_cast<std::uint64_t>(endpoint.rank())));
    parallel::ddp ddp(m, endpoint);
    {
      const auto quiet = ddp.no_sync();
      const auto twice = ddp.no_sync();
      al::backward(loss_of(m, static_cast<std::uint64_t>(endpoint.rank())));
      ddp.finish();
    }
    CHECK(gradients_of(m) == gradients_of(own));
  });
}

TEST_CASE("parallel/ddp: what accumulated without synchronisation is reduced when told to") {
  for (const int zero : {0, 1, 2}) {
    const auto all = comm::run(2, [&](comm::threads& endpoint) {
      bits found[2];
      for (const bool told : {false, true}) {
        const auto m = make(1);
        parallel::ddp ddp(m, endpoint, {.bucket_bytes = 200, .micro_batches = 2, .zero = zero});
        for (std::uint64_t b = 0; b < 2; ++b) {
          const auto loss = loss_of(m, 2 * static_cast<std::uint64_t>(endpoint.rank()) + b);
          if (told || b == 0) {
            const auto quiet = ddp.no_sync();
            al::backward(loss);
          } else {
            al::backward(loss);
          }
        }
        if (told) {
          ddp.reduce();
        }
        if (zero == 0) {
          found[told] = gradients_of(m);
        }
        for (const tensor& piece : ddp.pieces()) {
          const auto v = al::to_vector(al::gradient(piece));
          found[told].insert(found[told].end(), v.begin(), v.end());
        }
      }
      CHECK(!found[0].empty());
      CHECK(found[0] == found[1]);
      return found[1];
    });
    CHECK((all[0] == all[1]) == (zero == 0));
  }
  comm::thread_group group(1);
  auto endpoint = group.endpoint(0);
  const auto m = make(1);
  parallel::ddp ddp(m, endpoint);
  CHECK_THROWS_AS(ddp.reduce(), parallel::unused_parameters);  // no pass at all
  {
    const auto quiet = ddp.no_sync();
    al::backward(al::sum(m.layers[0](al::ones<tensor>({1, 5}))));
  }
  CHECK_THROWS_AS(ddp.reduce(), parallel::unused_parameters);
}

TEST_CASE("parallel/ddp: frozen parameters are broadcast but not reduced") {
  comm::run(2, [](comm::threads& endpoint) {
    auto m = make(endpoint.rank() == 0 ? 1 : 2);
    m.layers[0].weight = al::detach(m.layers[0].weight);
    parallel::ddp ddp(m, endpoint);
    CHECK(ddp.buckets()[0].size() == 5);
    al::backward(loss_of(m, static_cast<std::uint64_t>(endpoint.rank())));
    ddp.finish();
    CHECK(weights_of(m) == weights_of(make(1)));
  });
}

TEST_CASE("parallel/ddp: hooks go away with their owner") {
  comm::thread_group group(1);
  auto endpoint = group.endpoint(0);
  const auto m = make(1);
  {
    parallel::ddp first(m, endpoint, {.micro_batches = 2});
    const parallel::ddp moved = std::move(first);
    al::backward(loss_of(m, 0));
  }
  const bits halved = gradients_of(m);
  nn::zero_grad(m);
  al::backward(loss_of(m, 0));
  nn::scale_grad(m, 0.5);
  CHECK(gradients_of(m) == halved);
}

TEST_CASE("parallel/ddp: unused parameters are reported by name, and the next pass starts anew") {
  comm::thread_group group(1);
  auto endpoint = group.endpoint(0);
  auto m = make(1);
  const auto some = [&] {  // leaves out the layer in the middle
    return al::sum(m.layers[2](al::tanh(m.layers[0](al::ones<tensor>({1, 5})))));
  };
  parallel::ddp ddp(m, endpoint, {.first_bucket_bytes = 1, .bucket_bytes = 1});
  const auto reported = [](const auto& f) {
    try {
      f();
    } catch (const parallel::unused_parameters& e) {
      CHECK(std::string(e.what()).find("'layers.1.weight'") != std::string::npos);
      return e.names;
    }
    return std::vector<std::string>{};
  };
  const std::vector<std::string> middle{"layers.1.weight", "layers.1.bias"};
  al::backward(some());
  CHECK(reported([&] { ddp.finish(); }) == middle);
  ddp.finish();  // nothing left to report
  nn::zero_grad(m);
  al::backward(loss_of(m, 0));
  ddp.finish();
  nn::zero_grad(m);
  al::backward(some());
  CHECK(reported([&] { al::backward(loss_of(m, 1)); }) == middle);
  nn::zero_grad(m);
  al::backward(loss_of(m, 2));
  ddp.finish();
}

TEST_CASE("parallel/ddp: after a pass that failed half-way a reset gives a fresh start") {
  comm::thread_group group(1);
  auto endpoint = group.endpoint(0);
  const auto m = make(1);
  parallel::ddp ddp(m, endpoint, {.first_bucket_bytes = 1, .bucket_bytes = 1});
  auto bad = al::register_hook(m.layers[0].weight,
                               [](const tensor&) { throw al::argument_error("test", "no"); });
  CHECK_THROWS_AS(al::backward(loss_of(m, 0)), al::argument_error);
  bad.remove();
  ddp.reset();
  nn::zero_grad(m);
  al::backward(loss_of(m, 0));
  ddp.finish();
  const bits after = gradients_of(m);
  const auto fresh = make(1);
  al::backward(loss_of(fresh, 0));
  CHECK(gradients_of(fresh) == after);
}

TEST_CASE("parallel/ddp: unused parameters may count as zero") {
  const auto gradients = comm::run(2, [](comm::threads& endpoint) {
    auto m = make(1);
    parallel::ddp ddp(m, endpoint, {.unused = parallel::unused::zero}, comm::ring{});
    if (endpoint.rank() == 0) {
      al::backward(loss_of(m, 0));
    } else {
      al::backward(al::sum(m.layers[2](al::ones<tensor>({1, 13}))));
    }
    ddp.finish();
    const bits first = gradients_of(m);
    nn::zero_grad(m);
    if (endpoint.rank() == 0) {  // the other rank has nothing at all in this step
      al::backward(loss_of(m, 0));
    }
    ddp.finish();
    const bits second = gradients_of(m);
    return std::vector{first, second};
  });
  CHECK(gradients[0] == gradients[1]);
  auto alone = make(1);
  al::backward(loss_of(alone, 0));
  nn::scale_grad(alone, 0.5);
  CHECK(gradients[0][1] == gradients_of(alone));
  CHECK(gradients[0][0] != gradients[0][1]);
  const auto head = [](const bits& all) { return bits(all.begin(), all.begin() + 65 + 13 + 169); };
  CHECK(head(gradients[0][0]) == head(gradients[0][1]));
}

TEST_CASE("parallel/ddp: ranks whose models or options differ are told") {
  const auto with = [](std::int64_t width, parallel::ddp_options options) {
    comm::run(2, [&](comm::threads& endpoint) {
      const bool first = endpoint.rank() == 0;
      const auto m = make(1, first ? 13 : width);
      const parallel::ddp ddp(m, endpoint, first ? parallel::ddp_options{} : options);
    });
  };
  CHECK_NOTHROW(with(13, {}));
  try {
    with(12, {});
    FAIL("accepted");
  } catch (const parallel::replica_mismatch& e) {
    CHECK(e.rank == 1);
    CHECK(e.difference == "'layers.0.weight'");
  }
  CHECK_THROWS_AS(with(13, {.bucket_bytes = 1000}), parallel::replica_mismatch);
  CHECK_THROWS_AS(with(13, {.micro_batches = 2}), parallel::replica_mismatch);

  comm::thread_group group(1);
  auto endpoint = group.endpoint(0);
  CHECK_THROWS_AS(parallel::ddp(make(1), endpoint, {.micro_batches = 0}), al::argument_error);
  CHECK_THROWS_AS(parallel::ddp(make(1), endpoint, {.bucket_bytes = 0}), al::argument_error);
}

TEST_CASE("parallel/ddp: a rank that fails takes the others out of their backward pass") {
  CHECK_THROWS_AS(comm::run(2,
                            [](comm::threads& endpoint) {
                              const auto m = make(1);
                              parallel::ddp ddp(m, endpoint);
                              if (endpoint.rank() == 1) {
                                throw al::argument_error("test", "gone");
                              }
                              al::backward(loss_of(m, 0));
                            }),
                  al::argument_error);
}

TEST_CASE(
    "parallel/tensor_parallel: a pair of layers costs two all-reduces and gives what one rank "
    "has") {
  const auto x = al::require_grad(al::randn<tensor>({4, 5}, 7));
  for (const bool biases : {true, false}) {
    for (const int ranks : {1, 2, 3}) {
      const auto make_layers = [&] {
        using layer = nn::linear<stack>;
        model m;
        m.layers = {layer::make(5, 7, biases), layer::make(7, 6, biases)};
        nn::initialize(m, 3, nn::init::normal(0.0, 0.3));
        return m;
      };
      const model whole = make_layers();
      nn::require_grad(whole);
      const auto y = whole(x);
      al::gradient(x) = {};
      al::backward(al::sum(y * y));
      const bits expected = al::to_vector(y), slope = al::to_vector(al::gradient(x));
      const bits weights = al::to_vector(al::gradient(whole.layers[0].weight));
      comm::run(ranks, [&](comm::threads& inner) {
        comm::logged endpoint(inner);
        using logged = comm::logged<comm::threads>;
        const auto up =
            parallel::column_parallel<stack, logged>::of(make_layers().layers[0], endpoint);
        const auto down =
            parallel::row_parallel<stack, logged>::of(make_layers().layers[1], endpoint);
        nn::require_grad(up);
        nn::require_grad(down);
        const auto own = al::require_grad(al::randn<tensor>({4, 5}, 7));
        const auto part = down(al::tanh(up(own)));
        const std::size_t messages = 2 * static_cast<std::size_t>(ranks - 1);  // of an all-reduce
        CHECK(endpoint.messages().size() == messages);
        al::backward(al::sum(part * part));
        CHECK(endpoint.messages().size() == 2 * messages);
        // Sums of up to seven products in another order: some units in the last place.
        const auto near = [](const bits& a, const bits& b) {
          REQUIRE(a.size() == b.size());
          double off = 0, all = 0;
          for (std::size_t i = 0; i < a.size(); ++i) {
            off += (a[i] - b[i]) * (a[i] - b[i]);
            all += b[i] * b[i];
          }
          CHECK(off <= 1e-10 * all);  // 1e-5 of the norm
        };
        near(al::to_vector(part), expected);
        near(al::to_vector(al::gradient(own)), slope);
        const auto mine = comm::chunk_of(7, ranks, inner.rank());
        near(al::to_vector(al::gradient(up.weight)),
             bits(weights.begin() + static_cast<std::ptrdiff_t>(5 * mine.first),
                  weights.begin() + static_cast<std::ptrdiff_t>(5 * mine.last)));
      });
    }
  }
  comm::run(3, [](comm::threads& endpoint) {
    using part = parallel::column_parallel<stack, comm::threads>;
    CHECK_THROWS_AS(static_cast<void>(part::of(nn::linear<stack>::make(5, 2), endpoint)),
                    al::argument_error);
  });
}
