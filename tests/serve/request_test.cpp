// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/request.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace serve = ashlar::serve;

TEST_CASE("serve/request: a malformed request is refused with the name of its field") {
  const double nan = std::nan("");
  const std::vector<serve::token> p{1};
  const std::vector<std::pair<std::string, serve::request>> table{
      {"tokens", {}},
      {"tokens", {.tokens = {-1}}},
      {"tokens", {.tokens = {1, 23}}},
      {"tokens", {.tokens = std::vector<serve::token>(96, 1)}},
      {"max_tokens", {.tokens = p, .max_tokens = 0}},
      {"max_tokens", {.tokens = p, .max_tokens = -5}},
      {"min_tokens", {.tokens = p, .max_tokens = 4, .min_tokens = 5}},
      {"min_tokens", {.tokens = p, .min_tokens = -1}},
      {"stop_tokens", {.tokens = p, .stop_tokens = {23}}},
      {"sampling.temperature", {.tokens = p, .sampling = {.temperature = -0.1}}},
      {"sampling.temperature", {.tokens = p, .sampling = {.temperature = nan}}},
      {"sampling.temperature", {.tokens = p, .sampling = {.temperature = HUGE_VAL}}},
      {"sampling.top_k", {.tokens = p, .sampling = {.top_k = -2}}},
      {"sampling.top_p", {.tokens = p, .sampling = {.top_p = 0}}},
      {"sampling.top_p", {.tokens = p, .sampling = {.top_p = 1.01}}},
      {"sampling.top_p", {.tokens = p, .sampling = {.top_p = nan}}},
      {"sampling.min_p", {.tokens = p, .sampling = {.min_p = -0.1}}},
      {"sampling.min_p", {.tokens = p, .sampling = {.min_p = 1.1}}},
      {"sampling.repetition_penalty", {.tokens = p, .sampling = {.repetition_penalty = 0}}},
      {"sampling.repetition_penalty", {.tokens = p, .sampling = {.repetition_penalty = nan}}},
  };
  for (const auto& entry : table) {
    CAPTURE(entry.first);
    try {
      serve::validate(entry.second, 23, 96);
      FAIL("it was accepted");
    } catch (const serve::invalid_request& e) {
      CHECK(e.field == entry.first);
      CHECK(std::string(e.what()).find(entry.first) != std::string::npos);
    }
  }
  serve::validate({.tokens = std::vector<serve::token>(95, 1)}, 23, 96);
}

TEST_CASE("serve/request: sampling options out of range are refused with the name of their field") {
  const std::vector<std::pair<std::string, serve::sampling_options>> table{
      {"sampling.typical_p", {.typical_p = 0}},
      {"sampling.typical_p", {.typical_p = 1.5}},
      {"sampling.frequency_penalty", {.frequency_penalty = 2.1}},
      {"sampling.frequency_penalty", {.frequency_penalty = std::nan("")}},
      {"sampling.presence_penalty", {.presence_penalty = -2.1}},
      {"sampling.repetition_penalty", {.repetition_penalty = 1e-50}},
      {"sampling.repetition_penalty", {.repetition_penalty = 1e7}},
      {"sampling.repetition_penalty", {.repetition_penalty = std::nan("")}},
      {"sampling.logit_bias", {.logit_bias = {{23, 1}}}},
      {"sampling.logit_bias", {.logit_bias = {{1, std::nanf("")}}}},
      {"sampling.allowed_tokens", {.allowed_tokens = {1, -1}}},
      {"sampling.bad_words", {.bad_words = {{1}, {}}}},
      {"sampling.bad_words", {.bad_words = {{1, 23}}}},
  };
  for (const serve::sampling_options& ignored : std::vector<serve::sampling_options>{
           {.repetition_penalty = 1.1},
           {.frequency_penalty = 1},
           {.presence_penalty = 1},
           {.logit_bias = {{1, 1}}},
           {.allowed_tokens = {1}},
           {.bad_words = {{1}}},
           {.mask = [](std::span<const serve::token>) { return nullptr; }}}) {
    try {
      serve::validate({.tokens = {1}, .sampling = ignored, .beam_width = 2}, 23, 96);
      FAIL("a beam search does not look at it");
    } catch (const serve::invalid_request& e) {
      CHECK(e.field == "beam_width");
    }
    serve::validate({.tokens = {1}, .sampling = ignored}, 23, 96);
  }
  serve::validate({.tokens = {1}, .beam_width = 2}, 23, 96);
  for (const serve::request& r : std::vector<serve::request>{
           {.tokens = {1}, .beam_width = (1 << 20) + 1},
           {.tokens = {1}, .beam_width = 2, .length_penalty = 101},
           {.tokens = {1}, .beam_width = 2, .length_penalty = std::nan("")}}) {
    CHECK_THROWS_AS(serve::validate(r, 23, 96), serve::invalid_request);
  }
  for (const auto& entry : table) {
    CAPTURE(entry.first);
    try {
      serve::validate({.tokens = {1}, .sampling = entry.second}, 23, 96);
      FAIL("it was accepted");
    } catch (const serve::invalid_request& e) {
      CHECK(e.field == entry.first);
    }
  }
  serve::validate({.tokens = {1},
                   .sampling = {.typical_p = 0.5,
                                .frequency_penalty = -2,
                                .presence_penalty = 2,
                                .logit_bias = {{22, 1e9F}},
                                .allowed_tokens = {0, 22},
                                .bad_words = {{22, 22}}}},
                  23, 96);
}
