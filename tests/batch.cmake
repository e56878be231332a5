# SPDX-License-Identifier: Apache-2.0
# cmake -DOUT=<file> -DPIECES=<room/name_test.cpp,...> -P batch.cmake
# Writes one source file that stands for several tests. What they include comes first; then each
# stands in a namespace of its own, so that their names do not meet.
cmake_minimum_required(VERSION 3.25)
string(REPLACE "," ";" PIECES "${PIECES}")
set(includes "")
set(bodies "")
foreach(piece IN LISTS PIECES)
  get_filename_component(room ${piece} DIRECTORY)
  file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/${piece} lines REGEX "^#include")
  foreach(line IN LISTS lines)
    string(REGEX MATCH "\"([^\"/]+)\"" beside "${line}")  # a header in the same folder
    if(beside)
      set(line "#include \"${room}/${CMAKE_MATCH_1}\"")
    endif()
    list(APPEND includes "${line}")
  endforeach()
  string(MAKE_C_IDENTIFIER "in_${piece}" name)
  string(APPEND bodies "namespace ${name} {\n#include \"${piece}\"\n}\n")
endforeach()
list(REMOVE_DUPLICATES includes)
list(JOIN includes "\n" includes)
file(CONFIGURE OUTPUT ${OUT} CONTENT "@includes@\n@bodies@" @ONLY)
