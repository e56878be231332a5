// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: clang++-16 -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ashlar/io.hpp"

namespace io = ashlar::io;

namespace {

void touch(const io::entry_list& entries) {
  for (const io::tensor_entry& entry : entries) {
    std::vector<float> out(static_cast<std::size_t>(entry.size()));
    io::dequantize(entry, out);
  }
}

}  // namespace

// The first byte chooses the reader; anything but acceptance or a `format_error` is a bug.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    switch (data[0] % 6) {
      case 0:
        touch(io::safetensors(bytes).entries());
        break;
      case 1: {
        const io::gguf file(bytes);
        touch(file.entries());
        static_cast<void>(io::read_tokenizer(file).encode("some text"));
        break;
      }
      case 2:
        touch(io::llama2c(bytes).entries());
        break;
      case 3:
        static_cast<void>(io::read_llama2c_tokenizer(bytes).encode("some text"));
        break;
      case 4:
        static_cast<void>(io::read_tokenizer_json(text).encode("some text"));
        break;
      default:
        static_cast<void>(io::read_config_json(text));
    }
  } catch (const io::format_error&) {
    return 0;
  }
  return 0;
}
