# SPDX-License-Identifier: Apache-2.0
# Checks of the demo as its user sees it.
# cmake -DDEMO=<program> -DCHECK=help|refuses|quick|story -DSOURCE=<this folder>
#       -DDATA=<folder of model files> -DSCRATCH=<folder to write to> -P check.cmake

# Runs the demo; sets out, err and code.
function(demo)
  execute_process(COMMAND ${DEMO} ${ARGN}
    OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE code)
  list(JOIN ARGN " " arguments)
  set(call "ashlar_demo ${arguments}" PARENT_SCOPE)
  foreach(name out err code)
    set(${name} "${${name}}" PARENT_SCOPE)
  endforeach()
endfunction()

macro(fail what)
  message(FATAL_ERROR "${call}\n${what}\ncode: ${code}\nstdout:\n${out}\nstderr:\n${err}")
endmacro()

function(expect_success)
  if(NOT code EQUAL 0)
    fail("it must succeed")
  endif()
endfunction()

# `stream` is out or err.
function(expect_text stream regex)
  if(NOT "${${stream}}" MATCHES "${regex}")
    fail("std${stream} must match ${regex}")
  endif()
endfunction()

if(CHECK STREQUAL "help")
  demo(--help)
  expect_success()
  file(READ ${SOURCE}/options.cpp text)
  string(REGEX MATCHALL "\\(\"--[a-z-]+\"" options "${text}")
  list(LENGTH options count)
  if(count LESS 20)
    fail("only ${count} options found in options.cpp")
  endif()
  foreach(option IN LISTS options)
    string(REGEX REPLACE "[(\"]" "" option "${option}")
    expect_text(out "  ${option}[ \n]")
  endforeach()

elseif(CHECK STREQUAL "refuses")
  # Arguments, and what the sentence about them must name.
  foreach(pair "--bogus|--bogus" "--steps 0|--steps: it must be a whole number from 1 to"
               "--steps many|--steps: it must be" "--steps 1.5|--steps: it must be"
               "--top-p 2|--top-p: it must be" "--learning-rate nan|--learning-rate: it must be"
               "--ranks 1000|--ranks: it must be a whole number from 1 to 64"
               "--seed -1|--seed: it must be" "--tokenizer some.bin|--tokenizer"
               "--batch 7 --ranks 2|multiple of --ranks"
               "--dim 50 --heads 4|multiple of twice --heads"
               "--heads 6 --dim 48 --kv-heads 4|multiple of --kv-heads"
               "--vocabulary 100|whole number from 258"
               "--text no-such-file|no-such-file"
               "--text /dev/null --save ${SCRATCH}/refused|--context"
               "--model ${SOURCE} --steps 5|--steps: it is about training"
               "--model ${SOURCE} --quick|--quick: it is about training"
               "--model no-such-file.gguf|no-such-file.gguf"
               "--model ${SOURCE}/options.cpp|options.cpp")
    string(REGEX MATCH "^(.*)\\|(.*)$" matched "${pair}")
    set(words "${CMAKE_MATCH_2}")
    separate_arguments(arguments UNIX_COMMAND "${CMAKE_MATCH_1}")
    demo(${arguments})
    if(NOT code MATCHES "^[1-9][0-9]*$")  # a crash has a name
      fail("it must exit with a code other than 0")
    endif()
    expect_text(err "${words}")
    expect_text(out "^$")
  endforeach()

elseif(CHECK STREQUAL "quick")
  file(REMOVE_RECURSE ${SCRATCH})
  demo(--quick --max-tokens 8 --save ${SCRATCH}/quick)
  expect_success()
  expect_text(out "^parameters [0-9]+, held-out loss ([0-9.]+), interpolated bigram ([0-9.]+): the model is better\n")
  string(REGEX MATCH "loss ([0-9.]+), interpolated bigram ([0-9.]+)" matched "${out}")
  if(NOT CMAKE_MATCH_1 LESS CMAKE_MATCH_2)
    fail("the held-out loss must be below that of the bigram")
  endif()
  expect_text(out "\nsaved to [^\n]+, loaded again: [0-9]+ logits, all equal to the bit\n")
  foreach(prompt RANGE 7)
    expect_text(out "\n.${prompt}. ")
  endforeach()
  expect_text(err "\\[#+\\] step 500/500  loss [0-9.]+  [1-9][0-9]* tokens/s\n")
  expect_text(err "served 8 prompts: [1-9][0-9]* tokens in, [1-9][0-9]* out, [1-9][0-9]* tokens/s\n")
  expect_text(err "KV cache: [1-9][0-9]* of [1-9][0-9]* blocks at most, [0-9.]+ % of used memory wasted on average")
  demo(--model ${SCRATCH}/quick --prompt "// " --prompt "namespace" --max-tokens 5 --raw)
  expect_success()
  expect_text(err "served 2 prompts")
  foreach(run first second)
    demo(--quick --steps 20 --max-tokens 1 --save ${SCRATCH}/${run})
    expect_success()
    file(SHA256 ${SCRATCH}/${run}/model.safetensors ${run})
  endforeach()
  if(NOT first STREQUAL second)
    fail("the same seed must give the same weights")
  endif()
  file(REMOVE_RECURSE ${SCRATCH})

elseif(CHECK STREQUAL "story")
  set(folder ${DATA}/stories260K)
  if(NOT EXISTS ${folder}/expected.txt)
    message("SKIPPED: no stories260K in '${DATA}'")
    return()
  endif()
  file(READ ${folder}/expected.txt story)
  foreach(kind bin gguf)
    demo(--model ${folder}/stories260K.${kind} --raw)
    expect_success()
    if(NOT out STREQUAL story)
      fail("it must tell expected.txt")
    endif()
  endforeach()

else()
  message(FATAL_ERROR "no check named '${CHECK}'")
endif()
