// SPDX-License-Identifier: Apache-2.0
// The kit finds what it is there for: each kernel has one fault.
#include "conformance/faults.hpp"

#include <exception>
#include <string>
#include <vector>

#include "ashlar/stack.hpp"
#include "support/conformance.hpp"

namespace {

namespace al = ashlar;
namespace ops = ashlar::ops;
namespace kit = ashlar::conformance;
using kit::verdict;

/// Whether the kit finds it in the form that `where` begins with, and again from its own line.
template <class Op, class Stack, class T = float>
void check_found(const std::string& where) {
  using list = ops::operators<Op>;
  const kit::report all = kit::run<Stack, kit::types<T>, list>({.print = false});
  REQUIRE(all.cells.size() == 1);
  const kit::cell& c = all.cells[0];
  CAPTURE(c.op);
  CAPTURE(c.what);
  REQUIRE(c.result == verdict::fail);
  CHECK(c.what.substr(0, where.size()) == where);
  const kit::report again =
      kit::run<Stack, kit::types<T>, list>({.op = std::string(c.op),
                                            .dtype = std::string(al::name_of(c.type)),
                                            .sample = c.first,
                                            .print = false});
  REQUIRE(again.cells.size() == 1);
  CHECK(again.cells[0].samples == 1);
  CHECK(again.cells[0].what.substr(0, where.size()) == where);
}
using broken =
    faults::faulty<faults::add_without_strides, faults::sub_into_dense, faults::relu_without_tail,
                   faults::abs_over_the_end, faults::minimum_that_reads_on, faults::matmul_onto,
                   faults::maximum_without_nan, faults::sum_squares_of_some, faults::last_argmax,
                   faults::cast_by_cutting, faults::narrow_sum, faults::mul_by_repeating,
                   faults::softmax_of_rows, faults::neg_after_clearing,
                   faults::square_in_the_argument, faults::restless_scale, faults::run_outer<1>,
                   faults::run_outer<2>>;
using broken_in_one_type =
    faults::faulty<faults::saturating_add, faults::sub_of_whole_numbers_into_dense,
                   faults::neg_after_clearing_whole_numbers, faults::run_outer<3>>;
template <class Kernel, class Chip = broken, class T = float>
void check_kernel(const std::string& where) {
  check_found<typename Kernel::op, Chip, T>(where);
}

/// Whether the kit finds it in `T`, where `float` passes.
template <class T, class Op, class Stack>
void check_found_beside_float(const std::string& where) {
  const kit::report r = kit::run<Stack, kit::types<float, T>, ops::operators<Op>>({.print = false});
  REQUIRE(r.cells.size() == 2);
  CHECK_MESSAGE(r.cells[0].result == verdict::pass, r.cells[0].what);
  CHECK(r.cells[1].result == verdict::fail);
  CHECK_MESSAGE(r.cells[1].what.substr(0, where.size()) == where, r.cells[1].what);
}

using wrong_gradients =
    al::stack<al::on<faults::faulty<
                  faults::tanh_backward_of_wrong_sign, faults::sigmoid_backward_of_wrong_scale,
                  faults::relu_backward_of_wrong_scale_if_narrow, faults::run_twice_and_square<0>,
                  faults::run_twice_and_square<1>, faults::run_twice_and_square<2>>>,
              al::differentiate<al::autograd::tape<>>>;

}  // namespace

namespace ashlar::conformance {

template <int Fault>
struct samples<faults::outer<Fault>> : plain_samples {
  template <class T>
  using arguments = types<T, T>;
  static void list(sample_list& all) {
    for (const std::int64_t n : {std::int64_t{0}, std::int64_t{1}, std::int64_t{3}}) {
      all.add({.in = {{{n}}, {{5}}}});
    }
    all.add({.in = {{{2, 3}}, {{5}}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y({q.in[0].size(), q.in[1].size()});
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = q.in[0][i / q.in[1].size()] * q.in[1][i % q.in[1].size()];
    }
    return {y};
  }
};
template <int Fault>
struct samples<faults::twice_and_square<Fault>> : plain_samples {
  template <class T>
  using arguments = types<T>;
  static void list(sample_list& all) {
    all.add({.in = {{{3}}}, .allowed = {1, 4}, .gradient = true});
  }
  static std::vector<numbers> twin(const question& q) {
    std::vector<numbers> y{q.in[0], q.in[0]};
    for (std::int64_t i = 0; i < y[0].size(); ++i) {
      y[0][i] *= 2;
      y[1][i] *= y[1][i];
    }
    return y;
  }
};

}  // namespace ashlar::conformance

TEST_CASE("conformance/faults: right kernels pass") {
  using chip = faults::faulty<faults::right_add, faults::right_relu, faults::run_outer<0>>;
  const kit::report r =
      kit::run<chip, kit::types<float>, ops::operators<ops::add, ops::relu, faults::outer<0>>>(
          {.print = false});
  CHECK_MESSAGE(r.ok(), r.text());
  CHECK(r.count(verdict::pass) == 3);
  using none = faults::lazy<faults::queue_fault::none>;
  const kit::report lazy =
      kit::run<none, kit::types<float>, ops::operators<ops::add, ops::sub>>({.print = false});
  CHECK_MESSAGE(lazy.ok(), lazy.text());
  CHECK(lazy.find("add", al::dtype::float32)->result == verdict::pass);
  CHECK(lazy.find("sub", al::dtype::float32)->result == verdict::unsupported);
}

TEST_CASE("conformance/faults: strides, tails and what lies around are found") {
  check_kernel<faults::add_without_strides>("in place with gaps: ");
  check_kernel<faults::sub_into_dense>("out= with gaps: ");
  check_kernel<faults::relu_without_tail>("");  // its memory may hold what was right before
  check_kernel<faults::abs_over_the_end>("out=: byte ");
  check_kernel<faults::minimum_that_reads_on>("functional: ");
  check_kernel<faults::matmul_onto>("");
}

TEST_CASE("conformance/faults: NaN, sizes of none, ties, rounding and sums are found") {
  check_kernel<faults::maximum_without_nan>("functional: ");
  check_kernel<faults::sum_squares_of_some>("functional: shape [] element 0: got nan, want 0");
  check_kernel<faults::last_argmax>("functional: ");
  check_found<ops::cast<float>, broken, al::bfloat16>("functional: ");
  check_kernel<faults::saturating_add, broken_in_one_type, std::int8_t>("functional: ");
  check_kernel<faults::narrow_sum, broken, al::bfloat16>("functional: ");
}

TEST_CASE("conformance/faults: broadcasting, axes, aliases and restless results are found") {
  check_kernel<faults::mul_by_repeating>("functional: ");
  check_kernel<faults::softmax_of_rows>("functional: ");
  check_kernel<faults::neg_after_clearing>("in place");
  check_kernel<faults::square_in_the_argument>("functional: argument 0 is changed");
  check_kernel<faults::restless_scale>("functional, twice: ");
}

TEST_CASE("conformance/faults: launches that nobody waits for are found") {
  using early = faults::lazy<faults::queue_fault::copies_early>;
  check_found<ops::add, early>("functional: ");
  early::run(0);
  using little = faults::lazy<faults::queue_fault::waits_for_too_little>;
  check_found<ops::add, little>("functional");
  little::run(0);
}

TEST_CASE("conformance/faults: gradients of a wrong sign or scale are found") {
  check_found<ops::tanh, wrong_gradients>("gradient: ");
  check_found<ops::sigmoid, wrong_gradients>("gradient: ");
}

TEST_CASE("conformance/faults: gradients of one of several results, or of all, are found") {
  using right = faults::twice_and_square<0>;
  const kit::report r =
      kit::run<wrong_gradients, kit::types<float>, ops::operators<right>>({.print = false});
  CHECK_MESSAGE(r.ok(), r.text());
  check_found<faults::twice_and_square<1>, wrong_gradients>("gradient of result 1: ");
  check_found<faults::twice_and_square<2>, wrong_gradients>("gradient: ");
}

TEST_CASE("conformance/faults: an output that lies partly over an argument is found") {
  check_found<ops::neg, faults::unguarded>("out= over argument 0: ");
}

TEST_CASE("conformance/faults: what is wrong in one element type is found in every form") {
  using chip = broken_in_one_type;
  check_found_beside_float<std::int32_t, ops::sub, chip>("out= with gaps: ");
  check_found_beside_float<std::int32_t, ops::neg, chip>("in place");
  check_found_beside_float<std::int32_t, faults::outer<3>, chip>("meta: ");
  check_found_beside_float<al::bfloat16, ops::relu, wrong_gradients>("gradient: ");
}

TEST_CASE("conformance/faults: a shape rule that is wrong, or not the same twice, is found") {
  check_kernel<faults::run_outer<1>>("functional: shape [5, 0], want [0, 5]");
  check_kernel<faults::run_outer<2>>("meta: shape [");
}

TEST_CASE("conformance/faults: what a chip cannot run hides no fault") {
  const kit::options options{.print = false, .means_unsupported = [](const std::exception& e) {
                               return dynamic_cast<const faults::no_means*>(&e) != nullptr;
                             }};
  using list = ops::operators<ops::sign>;
  using right = faults::faulty<faults::sign_of_rows<1>>;
  using wrong = faults::faulty<faults::sign_of_rows<-1>>;
  const kit::report some = kit::run<right, kit::types<float>, list>(options);
  CHECK(some.cells.at(0).result == verdict::unsupported);
  CHECK(some.cells.at(0).what == "no single numbers");
  const kit::report r = kit::run<wrong, kit::types<float>, list>(options);
  CHECK(r.cells.at(0).result == verdict::fail);
  CHECK(r.cells.at(0).what.substr(0, 12) == "functional: ");
}

TEST_CASE("conformance/run: a program says whether something failed, and whether something ran") {
  using list = ops::operators<ops::relu, ops::abs>;
  using chip = faults::faulty<faults::right_relu, faults::abs_over_the_end>;
  const auto program = [](std::vector<std::string> words) {
    std::vector<char*> all;
    for (std::string& w : words) {
      all.push_back(w.data());
    }
    return kit::program<chip, kit::types<float>, list>(static_cast<int>(all.size()), all.data(),
                                                       {.print = false});
  };
  CHECK(program({"kit"}) == 1);
  CHECK(program({"kit", "--op", "relu"}) == 0);
  CHECK(program({"kit", "--op", "reul"}) == 2);
  CHECK(program({"kit", "--op", "relu", "--dtype", "float64"}) == 2);
  CHECK(program({"kit", "--op", "relu", "--sample", "999"}) == 2);
  CHECK(program({"kit", "--operator", "relu"}) == 2);
}
