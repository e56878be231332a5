// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ashlar::io::detail {

/// The value of a byte that is no part of well-formed UTF-8; outside every class of characters.
inline constexpr std::uint32_t invalid_code = 0xffffffff;

struct code_point {
  std::uint32_t value;
  std::size_t length;  ///< in bytes; 1 for an invalid byte
};

/// Bytes of the sequence that `lead` begins, or 0 where no sequence begins so.
constexpr std::size_t utf8_length(unsigned char lead) {
  return lead < 0x80   ? 1
         : lead < 0xc2 ? 0
         : lead < 0xe0 ? 2
         : lead < 0xf0 ? 3
         : lead < 0xf5 ? 4
                       : 0;
}

/// Whether `next` may follow `lead`; excludes overlong forms, surrogates and values past 0x10ffff.
constexpr bool utf8_second(unsigned char lead, unsigned char next) {
  const unsigned char least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned char most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  return next >= least && next <= most;
}

/// The code point that begins at `at`. Requires: `at < text.size()`.
constexpr code_point code_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  const std::size_t length = utf8_length(lead);
  if (length == 1) {
    return {lead, 1};
  }
  if (length == 0 || length > text.size() - at || !utf8_second(lead, byte(1))) {
    return {invalid_code, 1};
  }
  std::uint32_t value = lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0u) != 0x80u) {
      return {invalid_code, 1};
    }
    value = value << 6 | (byte(i) & 0x3fu);
  }
  return {value, length};
}

/// How many bytes at the end of `text` begin a sequence that more bytes could complete.
constexpr std::size_t unfinished_tail(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::size_t at = text.size() - back;
    const auto lead = static_cast<unsigned char>(text[at]);
    if ((lead & 0xc0u) == 0x80u) {
      continue;
    }
    const bool begun = utf8_length(lead) > back &&
                       (back == 1 || utf8_second(lead, static_cast<unsigned char>(text[at + 1])));
    return begun ? back : 0;
  }
  return 0;
}

inline void append_utf8(std::string& text, std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

/// The printable stand-in for a byte in the files of byte-level tokenizers.
///
/// Printable Latin-1 stands for itself; the others, in order, for 0x100, 0x101, ...
/// Source: GPT-2, `encoder.py`.
constexpr std::uint32_t stand_in(unsigned char byte) {
  const auto itself = [](unsigned b) {
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  };
  if (itself(byte)) {
    return byte;
  }
  std::uint32_t code = 0x100;
  for (unsigned b = 0; b < byte; ++b) {
    code += itself(b) ? 0u : 1u;
  }
  return code;
}

/// Inverse of `stand_in`, indexed by code point; -1 where there is none.
inline constexpr std::array<std::int16_t, 0x144> byte_of_stand_in = [] {
  std::array<std::int16_t, 0x144> bytes{};
  bytes.fill(-1);
  for (unsigned b = 0; b < 256; ++b) {
    bytes[stand_in(static_cast<unsigned char>(b))] = static_cast<std::int16_t>(b);
  }
  return bytes;
}();

inline std::string to_stand_ins(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    append_utf8(text, stand_in(static_cast<unsigned char>(c)));
  }
  return text;
}

/// The bytes behind stand-ins; text with any other character stands for itself.
inline std::string from_stand_ins(std::string_view text) {
  std::string bytes;
  for (std::size_t at = 0; at < text.size();) {
    const code_point code = code_at(text, at);
    if (code.value >= byte_of_stand_in.size() || byte_of_stand_in[code.value] < 0) {
      return std::string(text);
    }
    bytes += static_cast<char>(byte_of_stand_in[code.value]);
    at += code.length;
  }
  return bytes;
}

/// `text` with every `from` replaced.
inline std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at, from.size()) == from) {
      out += to;
      at += from.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

/// U+2581, which SentencePiece writes for a space.
inline constexpr std::string_view space_mark = "\xe2\x96\x81";

}  // namespace ashlar::io::detail
