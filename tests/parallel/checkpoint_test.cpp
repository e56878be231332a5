// SPDX-License-Identifier: Apache-2.0
#include "ashlar/parallel/checkpoint.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/init.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/parallel/fsdp.hpp"
#include "ashlar/parallel/pieces.hpp"
#include "ashlar/parallel/training_state.hpp"
#include "ashlar/stack.hpp"
#include "io/io_support.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;
namespace comm = ashlar::comm;
namespace parallel = ashlar::parallel;

namespace {

// ---- states and layouts, no tensor in sight ----

struct named_tensor {
  std::string name;
  al::shape whole;
  int stage = 0;  ///< of eight
};

/// An element's value says whose it is.
float value_of(std::size_t tensor, std::size_t element) {
  return static_cast<float>(1000 * tensor + element);
}

std::vector<named_tensor> random_state(std::mt19937& random) {
  std::vector<named_tensor> all;
  const auto draw = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const int count = 3 + draw(6);
  for (int i = 0; i < count; ++i) {
    named_tensor t{"part." + std::to_string(i), {}, draw(8)};
    const int rank = draw(4);
    for (int axis = 0; axis < rank; ++axis) {
      t.whole.push_back(draw(20) == 0 ? 0 : 1 + draw(9));
    }
    all.push_back(std::move(t));
  }
  return all;
}

struct layout {
  int data, tensor, pipeline;
  std::uint64_t axes;  ///< which axis of each tensor is cut
  [[nodiscard]] int ranks() const { return data * tensor * pipeline; }
};
layout random_layout(std::mt19937& random) {
  const auto one = [&] { return 1 + static_cast<int>(random() % 4); };
  return {one(), one(), one(), random()};
}

struct held {
  std::vector<parallel::region> regions;
  std::vector<std::vector<float>> elements;
};

/// What a rank has: of the tensors of its stage a box, of all boxes in a row its share.
std::vector<parallel::region> regions_of(const std::vector<named_tensor>& state, const layout& l,
                                         int rank) {
  const int data = rank % l.data, tensor = rank / l.data % l.tensor;
  const int pipeline = rank / l.data / l.tensor;
  std::vector<parallel::region> boxes;
  std::vector<std::size_t> sizes;
  for (std::size_t i = 0; i < state.size(); ++i) {
    const named_tensor& t = state[i];
    if (t.stage % l.pipeline == pipeline) {
      auto r = parallel::region::all(t.name, t.whole);
      if (t.whole.rank() > 0) {
        const int axis = static_cast<int>((l.axes >> i) % static_cast<unsigned>(t.whole.rank()));
        const auto own = comm::chunk_of(static_cast<std::size_t>(t.whole[axis]), l.tensor, tensor);
        r.start[axis] = static_cast<std::int64_t>(own.first);
        r.extents[axis] = static_cast<std::int64_t>(own.size());
      }
      sizes.push_back(static_cast<std::size_t>(al::element_count(r.extents)));
      boxes.push_back(std::move(r));
    }
  }
  std::size_t all = 0;
  for (const std::size_t s : sizes) {
    all += s;
  }
  std::vector<parallel::region> own;
  for (const auto& part : parallel::detail::overlaps(sizes, comm::chunk_of(all, l.data, data))) {
    own.push_back(boxes[part.member]);
    own.back().first = part.first;
    own.back().count = part.count;
  }
  return own;
}

/// The elements of a region one by one, by their coordinates.
std::vector<float> expected(const std::vector<named_tensor>& state, const parallel::region& r) {
  std::size_t number = 0;
  while (state[number].name != r.name) {
    ++number;
  }
  std::vector<float> values;
  for (std::size_t i = r.first; i < r.first + r.count; ++i) {
    std::vector<std::int64_t> at(static_cast<std::size_t>(r.whole.rank()));
    auto rest = static_cast<std::int64_t>(i);
    for (int axis = r.whole.rank(); axis-- > 0;) {
      at[static_cast<std::size_t>(axis)] = r.start[axis] + rest % r.extents[axis];
      rest /= r.extents[axis];
    }
    std::int64_t place = 0;
    for (int axis = 0; axis < r.whole.rank(); ++axis) {
      place = place * r.whole[axis] + at[static_cast<std::size_t>(axis)];
    }
    values.push_back(value_of(number, static_cast<std::size_t>(place)));
  }
  return values;
}

using everybody = std::vector<held>;

void save(const std::filesystem::path& folder, const everybody& ranks,
          const parallel::state_metadata& metadata = {}) {
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    std::vector<parallel::state_part> parts;
    for (std::size_t i = 0; i < ranks[rank].regions.size(); ++i) {
      parts.push_back({ranks[rank].regions[i], al::io::storage_format::float32,
                       std::as_bytes(std::span(ranks[rank].elements[i]))});
    }
    parallel::save_part(folder, static_cast<int>(rank), static_cast<int>(ranks.size()), parts,
                        metadata);
  }
}
everybody load(const std::filesystem::path& folder, const std::vector<named_tensor>& state,
               const layout& l) {
  const auto from = parallel::checkpoint::open(folder);
  everybody ranks(static_cast<std::size_t>(l.ranks()));
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    ranks[rank].regions = regions_of(state, l, static_cast<int>(rank));
    for (const auto& r : ranks[rank].regions) {
      ranks[rank].elements.emplace_back(r.count);
      from.read(r, al::io::storage_format::float32,
                std::as_writable_bytes(std::span(ranks[rank].elements.back())));
    }
  }
  return ranks;
}

// ---- training ----

using io_test::scratch;

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using tensor = stack::tensor<float>;

struct pair {
  using layer = nn::linear<stack>;
  BOOST_HANA_DEFINE_STRUCT(pair, (layer, first), (layer, second));
};
pair make(std::uint64_t seed) {
  pair m{nn::linear<stack>::make(5, 7), nn::linear<stack>::make(7, 3)};
  nn::initialize(m, seed, nn::init::normal(0.0, 0.3));
  nn::require_grad(m);
  return m;
}

constexpr int batches = 4;  // micro-batches per step, over all ranks

/// Trains from step `first` to step `last`, going on from a checkpoint where `from` names one and
/// leaving one where `to` does; on one rank without parts where `whole`. Returns: the weights.
std::vector<float> train(int ranks, int first, int last, bool whole,
                         const std::filesystem::path& from, const std::filesystem::path& to) {
  return comm::run(ranks,
                   [&](comm::threads& endpoint) {
                     const al::chip::thread_limit limit(1);
                     auto m = make(from.empty() ? 1 : 7);  // what is read counts
                     std::optional<parallel::fsdp<tensor, comm::threads, comm::ordered>> sharded;
                     const int own = batches / ranks;
                     if (!whole) {
                       sharded.emplace(m, endpoint, std::vector<std::string>{"first", "second"},
                                       parallel::fsdp_options{.micro_batches = own});
                     }
                     const parallel::held_parameters<tensor> all =
                         whole ? parallel::held_parameters<tensor>(m)
                               : parallel::held_parameters<tensor>(*sharded);
                     nn::adamw<tensor> optimizer(
                         all.pieces, {.weight_decay = 0.1},
                         parallel::rule_of_pieces(all.places, nn::decay_matrices{}));
                     int step = first;
                     if (!from.empty()) {
                       const auto saved = parallel::checkpoint::open(from);
                       step = std::stoi(saved.metadata().at("step"));
                       parallel::load_training(saved, all, optimizer);
                     }
                     for (; step < last; ++step) {
                       for (int b = 0; b < own; ++b) {
                         const auto number =
                             static_cast<std::uint64_t>(step * batches + endpoint.rank() * own + b);
                         const auto loss = [&] {
                           const auto x = al::randn<tensor>({4, 5}, number);
                           const auto y = whole ? m.first(x) : sharded->run(0, m.first, x);
                           const auto z = al::tanh(y);
                           const auto e = whole ? m.second(z) : sharded->run(1, m.second, z);
                           return al::mean(e * e);
                         }();
                         if (!whole && b + 1 < own) {
                           const auto quiet = sharded->no_sync();
                           al::backward(loss);
                         } else {
                           al::backward(loss);
                         }
                       }
                       if (whole) {
                         nn::scale_grad(m, 1.0 / own);
                       }
                       optimizer.step(0.01);
                       if (whole) {
                         nn::zero_grad(m);
                       } else {
                         sharded->renew();
                       }
                     }
                     if (!to.empty()) {
                       parallel::save_training(to, endpoint.rank(), ranks, all, optimizer,
                                               {{"step", std::to_string(step)}});
                     }
                     std::vector<float> weights;
                     const auto collect = [&] {
                       for (const auto& p : nn::parameters(m)) {
                         const auto v = al::to_vector(p);
                         weights.insert(weights.end(), v.begin(), v.end());
                       }
                     };
                     if (whole) {
                       collect();
                     } else {
                       const auto scope = sharded->whole();
                       collect();
                     }
                     return weights;
                   })
      .front();
}

}  // namespace

TEST_CASE("parallel/checkpoint: from one random layout to another and back is the identity") {
  std::mt19937 random(5);
  for (int i = 0; i < 40; ++i) {
    CAPTURE(i);
    const auto state = random_state(random);
    const layout a = random_layout(random), b = random_layout(random);
    const scratch one, two;
    everybody first(static_cast<std::size_t>(a.ranks()));
    for (std::size_t rank = 0; rank < first.size(); ++rank) {
      first[rank].regions = regions_of(state, a, static_cast<int>(rank));
      for (const auto& r : first[rank].regions) {
        first[rank].elements.push_back(expected(state, r));
      }
    }
    save(one.path(), first, {{"step", "3"}});
    const everybody there = load(one.path(), state, b);
    for (const held& rank : there) {
      for (std::size_t r = 0; r < rank.regions.size(); ++r) {
        CHECK(rank.elements[r] == expected(state, rank.regions[r]));
      }
    }
    save(two.path(), there);
    const everybody back = load(two.path(), state, a);
    for (std::size_t rank = 0; rank < first.size(); ++rank) {
      CHECK(back[rank].elements == first[rank].elements);
    }
  }
}

TEST_CASE("parallel/checkpoint: whole tensors are a plain file, and what does not fit is told") {
  using al::io::storage_format;
  const scratch folder;
  const std::vector<float> elements = {1, 2, 3, 4, 5, 6};
  const auto bytes = std::as_bytes(std::span(elements));
  auto right = parallel::region::all("w", {3, 2});
  right.start[1] = right.extents[1] = 1;
  right.count = 3;
  const std::vector<parallel::state_part> parts = {
      {parallel::region::all("v", {2, 3}), storage_format::float32, bytes},
      {right, storage_format::float32, bytes.first(12)}};
  parallel::save_part(folder / "a", 0, 2, parts, {{"step", "1"}});
  CHECK_THROWS_AS(static_cast<void>(parallel::checkpoint::open(folder / "a")), al::io::file_error);
  CHECK_THROWS_AS(static_cast<void>(parallel::checkpoint::open(folder / "b")),
                  parallel::checkpoint_error);
  parallel::save_part(folder / "a", 1, 2, {}, {{"step", "2"}});
  CHECK_THROWS_AS(static_cast<void>(parallel::checkpoint::open(folder / "a")),
                  parallel::checkpoint_error);
  parallel::save_part(folder / "a", 1, 2, {}, {{"step", "1"}});

  CHECK_THROWS_AS(parallel::save_part(folder / "a/state-00001-of-00002.safetensors", 0, 1, {}),
                  al::io::file_error);
  // The same before there is anything to save.
  CHECK_THROWS_AS(parallel::expect_room(folder / "a/state-00001-of-00002.safetensors", 0, 1),
                  al::io::file_error);
  CHECK_THROWS_AS(parallel::expect_room(folder / "a", 0, 1), parallel::checkpoint_error);
  parallel::expect_room(folder / "a", 1, 2);
  parallel::expect_room(folder / "new/folder", 0, 1);
  CHECK(std::filesystem::is_empty(folder / "new/folder"));
  std::filesystem::create_directories(folder / "full/state-00001-of-00001.safetensors");
  CHECK_THROWS_AS(parallel::expect_room(folder / "full", 0, 1), al::io::file_error);
  // What a saving that was killed leaves behind, and what only looks like a rank's file.
  for (const char* other : {"state-00001-of-00002.safetensors.tmp.1.0",
                            "state-00001-of--0003.safetensors", "state-00001-of-00004.txt"}) {
    std::filesystem::copy_file(folder / "a/state-00001-of-00002.safetensors", folder / "a" / other);
  }
  const auto file = al::io::safetensors::open(folder / "a/state-00001-of-00002.safetensors");
  CHECK(file.entries().at("v").extents == al::shape{2, 3});
  const auto saved = parallel::checkpoint::open(folder / "a");
  CHECK(saved.metadata() == parallel::state_metadata{{"step", "1"}});
  CHECK(saved.contains("w"));
  CHECK(!saved.contains("u"));
  CHECK(saved.tensors().at("w") == al::shape{3, 2});
  std::vector<float> to(3);
  const auto read = [&](const parallel::region& r, storage_format format) {
    saved.read(r, format, std::as_writable_bytes(std::span(to)));
  };
  read(right, storage_format::float32);
  CHECK(to == std::vector<float>{1, 2, 3});
  auto left = right;
  left.start[1] = 0;
  CHECK_THROWS_AS(read(left, storage_format::float32), parallel::checkpoint_error);
  auto other = right;
  other.name = "u";
  CHECK_THROWS_AS(read(other, storage_format::float32), parallel::checkpoint_error);
  other.name = "v";
  CHECK_THROWS_AS(read(other, storage_format::float32), parallel::checkpoint_error);
  CHECK_THROWS_AS(read(right, storage_format::int32), parallel::checkpoint_error);
  CHECK_THROWS_AS(read(right, storage_format::float64), al::argument_error);
  auto outside = right;
  outside.extents[0] = 0;
  CHECK_THROWS_AS(read(outside, storage_format::float32), al::argument_error);
  outside = right;
  outside.start[1] = 2;
  CHECK_THROWS_AS(read(outside, storage_format::float32), al::argument_error);
  const std::vector<parallel::state_part> wrong = {
      {outside, storage_format::float32, bytes.first(12)}};
  CHECK_THROWS_AS(parallel::save_part(folder / "c", 0, 1, wrong), al::argument_error);
  // Another number of ranks would leave two halves of checkpoints: the first one stays.
  CHECK_THROWS_AS(parallel::save_part(folder / "a", 0, 1, parts), parallel::checkpoint_error);
  CHECK_THROWS_AS(parallel::save_part(folder / "a", 2, 3, parts), parallel::checkpoint_error);
  CHECK(parallel::checkpoint::open(folder / "a").tensors().size() == 2);
  parallel::save_part(folder / "a", 1, 2, {}, {{"step", "1"}});
  std::filesystem::copy_file(folder / "a/state-00001-of-00002.safetensors",
                             folder / "a/state-00001-of-00003.safetensors");
  CHECK_THROWS_AS(static_cast<void>(parallel::checkpoint::open(folder / "a")),
                  parallel::checkpoint_error);

  // Places that a damaged file may have: of another rank, beyond the tensor, no numbers.
  const auto place = [&](const std::string& text) {
    al::io::tensor_entry entry;
    entry.name = "w#0";
    entry.extents = {3};
    return parallel::detail::read_place(text, entry, "place");
  };
  CHECK(place("0,3,2,0,1,3,1 w").name == "w");
  for (const char* bad :
       {"", "w", "0,3,2 w", "0,3,2,0,1,3,2 w", "1,3,2,0,1,3,1 w", "0,3,2,0,1,3,x w",
        "-1,3,2,0,1,3,1 w", "0,9223372036854775807,2,0,0,3,1 w"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(static_cast<void>(place(bad)), al::io::format_error);
  }
}

TEST_CASE(
    "parallel/training_state: what goes on from a checkpoint has the bits of what never ended") {
  const scratch folder;
  const auto uninterrupted = train(4, 0, 10, false, {}, {});
  CHECK(train(1, 0, 10, true, {}, {}) == uninterrupted);
  CHECK(train(4, 0, 4, false, {}, folder / "four") != uninterrupted);
  CHECK(train(4, 0, 10, false, folder / "four", folder / "end") == uninterrupted);
  // On one rank, in parts or not, which adds up the same micro-batches; and back on four.
  CHECK(train(1, 0, 10, true, folder / "four", {}) == uninterrupted);
  CHECK(train(1, 0, 7, false, folder / "four", folder / "one") != uninterrupted);
  CHECK(train(4, 0, 10, false, folder / "one", {}) == uninterrupted);
  train(1, 0, 4, true, {}, folder / "whole");
  CHECK(train(4, 0, 10, false, folder / "whole", {}) == uninterrupted);
  // A checkpoint of one rank is a file of the module's own names.
  const auto file = al::io::safetensors::open(folder / "whole/state-00001-of-00001.safetensors");
  CHECK(file.entries().at("first.weight").extents == al::shape{7, 5});
  CHECK(file.entries().at("optimizer.second.bias.exp_avg").extents == al::shape{3});
  CHECK(file.entries().at("optimizer.second.bias.step").extents == al::shape{});
}
