#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds and runs the consumer by one route: check_cmake.sh subdirectory|find_package WORK_FOLDER
set -eu
cd "$(dirname "$0")/../.."
route=${1:?subdirectory or find_package}
work=$(mkdir -p "${2:?a folder to work in}" && cd "$2" && pwd)
prefix=$work/prefix
rm -rf "${work:?}/$route" "$work/library" "$prefix"

if [ "$route" = find_package ]; then
  cmake -G Ninja -S . -B "$work/library" -DASHLAR_BUILD_TESTS=OFF -DASHLAR_BUILD_EXAMPLES=OFF \
    -DCMAKE_INSTALL_PREFIX="$prefix" >"$work/library.log"
  cmake --install "$work/library" >>"$work/library.log"
  # A package that points back into the source tree works here and nowhere else.
  if grep -rn "$PWD" "$prefix"; then
    echo "check_cmake: the installed package names the source tree" >&2
    exit 1
  fi
fi
cmake -G Ninja -S "tests/package/$route" -B "$work/$route" -DCMAKE_PREFIX_PATH="$prefix"
cmake --build "$work/$route"
"$work/$route/consumer"

if [ "$route" = find_package ] && command -v pkg-config >/dev/null; then
  PKG_CONFIG_PATH=$prefix/share/pkgconfig
  export PKG_CONFIG_PATH
  pkg-config --modversion --cflags ashlar
  # shellcheck disable=SC2046  # a list of words
  ${CXX:-c++} -std=c++20 $(pkg-config --cflags ashlar) -fsyntax-only tests/package/consumer.cpp
fi
