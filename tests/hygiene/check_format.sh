#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks that clang-format 16 would change nothing; `--fix` lets it.
set -eu
cd "$(dirname "$0")/../.."
formatter=${CLANG_FORMAT:-clang-format-16}
if ! command -v "$formatter" >/dev/null; then
  echo "check_format: no $formatter" >&2
  exit 77
fi
mode="--dry-run --Werror"
[ "${1:-}" != --fix ] || mode=-i
# shellcheck disable=SC2086  # one or two words
find include examples tests bench \( -name '*.hpp' -o -name '*.cpp' \) -print0 |
  xargs -0 -r -P "$(nproc)" -n 16 "$formatter" $mode
