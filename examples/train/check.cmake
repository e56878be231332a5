# SPDX-License-Identifier: Apache-2.0
# One result from every layout of ranks, and from a training that was interrupted.
# cmake -DTRAIN=<program> -DMPIRUN=<command and its flag for a number, or nothing> -DTEXT=<file>
#       -DSCRATCH=<folder to write to> -P check.cmake
set(small --text ${TEXT} --steps 4 --batch 8 --context 24 --dim 16 --layers 2 --vocabulary 300)
file(REMOVE_RECURSE ${SCRATCH})

# Trains; sets `result` to what stdout says of the model.
function(train)
  execute_process(COMMAND ${ARGN}
    OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE code)
  if(NOT code EQUAL 0 OR NOT out MATCHES "then (.*)\n$")
    message(FATAL_ERROR "${ARGN}\ncode: ${code}\nstdout:\n${out}\nstderr:\n${err}")
  endif()
  set(result "${CMAKE_MATCH_1}" PARENT_SCOPE)
endfunction()
function(expect_same)
  train(${ARGN})
  if(NOT result STREQUAL expected)
    message(FATAL_ERROR "${ARGN}\n${result}\ninstead of\n${expected}")
  endif()
endfunction()
function(expect_refusal sentence)
  execute_process(COMMAND ${TRAIN} ${small} ${ARGN}
    OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE code)
  if(code EQUAL 0 OR NOT err MATCHES "${sentence}")
    message(FATAL_ERROR "${ARGN}: stderr must match ${sentence}\ncode: ${code}\n${out}${err}")
  endif()
endfunction()

# One rank adds four micro-batches up in the order in which four replicas' gradients are summed.
train(${TRAIN} ${small} --mesh data=1 --micro-batches 4)
set(expected "${result}")
foreach(zero RANGE 3)
  expect_same(${TRAIN} ${small} --mesh data=4 --micro-batches 1 --zero ${zero})
endforeach()
expect_same(${TRAIN} ${small} --mesh pipeline=2,data=1 --micro-batches 4)
if(MPIRUN)
  expect_same(${MPIRUN} 8 ${TRAIN} ${small} --mesh data=4,pipeline=2 --micro-batches 1 --zero 1
              --transport mpi)
  expect_same(${MPIRUN} 4 ${TRAIN} ${small} --mesh data=4 --micro-batches 1 --zero 3
              --transport mpi)
  expect_refusal("MPI has 1" --transport mpi)
endif()

# Half of the steps in one layout, the others in another. Two replicas add up two micro-batches each.
train(${TRAIN} ${small} --mesh data=2)
set(expected "${result}")
train(${TRAIN} ${small} --mesh data=2 --zero 3 --stop 2 --save ${SCRATCH}/parts)
expect_same(${TRAIN} ${small} --mesh pipeline=2,data=2 --zero 1 --resume ${SCRATCH}/parts)
expect_same(${TRAIN} ${small} --mesh pipeline=2,data=2 --zero 3)
train(${TRAIN} ${small} --mesh pipeline=2,data=2 --stop 2 --save ${SCRATCH}/stages)
expect_same(${TRAIN} ${small} --mesh data=2 --zero 3 --resume ${SCRATCH}/stages)

# Matrices and tokens divided: sums in another order, so losses that differ in the last place shown.
function(expect_near)
  train(${ARGN})
  set(result "${result}" PARENT_SCOPE)
  string(REGEX REPLACE "^([0-9]+)[.]([0-9]+);.*" "\\1\\2" last "${result}")
  string(REGEX REPLACE "^([0-9]+)[.]([0-9]+);.*" "\\1\\2" wanted "${expected}")
  math(EXPR off "${last} - ${wanted}")
  if(off LESS -1 OR off GREATER 1)
    message(FATAL_ERROR "${ARGN}\n${result}\ninstead of\n${expected}")
  endif()
endfunction()
expect_near(${TRAIN} ${small} --mesh data=2,tensor=2 --zero 3)
expect_near(${TRAIN} ${small} --mesh data=2,sequence=2,tensor=4 --zero 2)
expect_near(${TRAIN} ${small} --mesh data=2,sequence=2 --zero 3)
train(${TRAIN} ${small} --mesh data=2,tensor=2,pipeline=2 --zero 1 --stop 2 --save ${SCRATCH}/three)
expect_near(${TRAIN} ${small} --mesh data=2 --zero 3 --resume ${SCRATCH}/three)
expect_near(${TRAIN} ${small} --mesh data=2,tensor=2,pipeline=2 --zero 1 --resume ${SCRATCH}/parts)
expect_near(${TRAIN} ${small} --mesh data=2,tensor=2,pipeline=2 --zero 1)
if(MPIRUN)
  set(expected "${result}")
  expect_same(${MPIRUN} 8 ${TRAIN} ${small} --mesh data=2,tensor=2,pipeline=2 --zero 3
              --transport mpi)
endif()

expect_refusal("has no experts" --mesh data=2,expert=2)
expect_refusal("4 stages for --layers 2" --mesh pipeline=4)
expect_refusal("must be a multiple of 6" --mesh data=3)
expect_refusal("must be a multiple of 4294967296" --mesh data=4194304 --micro-batches 1024)
expect_refusal("'datum=3' is no dimension" --mesh datum=3)
expect_refusal("carries no data" --transport simulated)
expect_refusal("no folder with a checkpoint" --resume ${SCRATCH}/nothing)
expect_refusal("nothing is left to do before step 2" --stop 2 --resume ${SCRATCH}/parts)
