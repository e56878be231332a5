# SPDX-License-Identifier: Apache-2.0
# Runs the compiler command behind it and shows what that says, if it is at most MOST lines long.
# Usage: cmake -DMOST=15 -P most_lines.cmake COMPILER ARGUMENTS...
set(command "")
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE 4 ${last})
  list(APPEND command "${CMAKE_ARGV${i}}")
endforeach()
execute_process(COMMAND ${command} RESULT_VARIABLE failed ERROR_VARIABLE said)
string(REGEX MATCHALL "\n" ends "${said}")
list(LENGTH ends lines)
if(failed EQUAL 0 OR lines GREATER MOST)
  message(FATAL_ERROR "${lines} lines, where ${MOST} are allowed (result ${failed})")
endif()
message("${said}")
