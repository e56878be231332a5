#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the Conan package in a cache of its own and consumes it: check_conan.sh WORK_FOLDER
# The dependencies come from the system: no Conan remote is asked.
set -eu
cd "$(dirname "$0")/../.."
work=$(mkdir -p "${1:?a folder to work in}" && cd "$1" && pwd)
conan=${CONAN:-conan}
command -v "$conan" >/dev/null || { echo "check_conan: no conan" >&2; exit 77; }

export CONAN_HOME="$work/conan_home"
rm -rf "$CONAN_HOME"
"$conan" profile detect >/dev/null 2>&1
"$conan" remote disable '*' >/dev/null
cat >>"$CONAN_HOME/profiles/default" <<'TEXT'

[platform_requires]
boost/1.74.0
xsimd/8.1.0
nlohmann_json/3.11.2

[conf]
tools.cmake.cmaketoolchain:generator=Ninja
TEXT
"$conan" create . --test-folder tests/package/conan \
  --settings compiler.cppstd=20 \
  --conf:all tools.cmake.cmake_layout:test_folder="$work/test_package"
"$conan" list 'ashlar/*:*'
