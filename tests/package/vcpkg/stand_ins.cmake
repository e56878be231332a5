# SPDX-License-Identifier: Apache-2.0
# Runs the overlay port without vcpkg: its helper functions, as far as the port uses them, with the
# checks that vcpkg itself makes after a port has run.
#   cmake -DWORK=FOLDER -P tests/package/vcpkg/stand_ins.cmake
cmake_minimum_required(VERSION 3.25)
get_filename_component(WORK "${WORK}" ABSOLUTE)
set(PORT ashlar)
set(CURRENT_PORT_DIR "${CMAKE_CURRENT_LIST_DIR}/${PORT}")
set(CURRENT_BUILDTREES_DIR "${WORK}/buildtrees")
set(CURRENT_PACKAGES_DIR "${WORK}/packages")
file(REMOVE_RECURSE "${WORK}")

function(must_run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "vcpkg stand-in: ${ARGV}\n${text}")
  endif()
endfunction()

function(vcpkg_cmake_configure)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "SOURCE_PATH" "OPTIONS")
  if(arg_UNPARSED_ARGUMENTS OR NOT IS_DIRECTORY "${arg_SOURCE_PATH}")
    message(FATAL_ERROR "vcpkg_cmake_configure: unknown ${arg_UNPARSED_ARGUMENTS} or no SOURCE_PATH")
  endif()
  must_run(${CMAKE_COMMAND} -G Ninja -S ${arg_SOURCE_PATH} -B ${CURRENT_BUILDTREES_DIR}
           -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR} ${arg_OPTIONS})
endfunction()

function(vcpkg_cmake_install)
  must_run(${CMAKE_COMMAND} --build ${CURRENT_BUILDTREES_DIR} --target install)
endfunction()

function(vcpkg_cmake_config_fixup)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "PACKAGE_NAME;CONFIG_PATH" "")
  set(from "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}")
  set(to "${CURRENT_PACKAGES_DIR}/share/${arg_PACKAGE_NAME}")
  if(NOT IS_DIRECTORY "${from}")
    message(FATAL_ERROR "vcpkg_cmake_config_fixup: ${from} does not exist")
  endif()
  file(MAKE_DIRECTORY "${to}")
  file(GLOB files "${from}/*")
  file(COPY ${files} DESTINATION "${to}")
  file(REMOVE_RECURSE "${from}")
  # The files moved one folder up, and so must the prefix that they derive from their own place.
  foreach(file IN LISTS files)
    cmake_path(GET file FILENAME name)
    file(READ "${to}/${name}" text)
    string(REGEX REPLACE
      "get_filename_component\\(_IMPORT_PREFIX \"\\\${CMAKE_CURRENT_LIST_FILE}\" PATH\\)(\nget_filename_component\\(_IMPORT_PREFIX \"\\\${_IMPORT_PREFIX}\" PATH\\))*"
      "get_filename_component(_IMPORT_PREFIX \"\${CMAKE_CURRENT_LIST_FILE}\" PATH)\nget_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\nget_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)"
      text "${text}")
    file(WRITE "${to}/${name}" "${text}")
  endforeach()
  file(GLOB left "${CURRENT_PACKAGES_DIR}/share/cmake/*")
  if(NOT left)
    file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/cmake")
  endif()
endfunction()

function(vcpkg_fixup_pkgconfig)
  file(GLOB_RECURSE files "${CURRENT_PACKAGES_DIR}/*.pc")
  foreach(file IN LISTS files)
    file(READ "${file}" text)
    if(text MATCHES "${CURRENT_PACKAGES_DIR}")
      message(FATAL_ERROR "vcpkg_fixup_pkgconfig: ${file} names the folder of the package")
    endif()
  endforeach()
endfunction()

function(vcpkg_install_copyright)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "FILE_LIST")
  file(INSTALL ${arg_FILE_LIST} DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}" RENAME copyright)
endfunction()

# A port runs as if from its own folder.
set(stand_ins_dir "${CMAKE_CURRENT_LIST_DIR}")
include("${CURRENT_PORT_DIR}/portfile.cmake")

# --- what vcpkg checks after the port --------------------------------------------------------------
file(READ "${CURRENT_PORT_DIR}/vcpkg.json" manifest)
string(JSON name GET "${manifest}" name)
string(JSON version GET "${manifest}" version)
file(READ "${CURRENT_PORT_DIR}/../../../../include/ashlar/version.hpp" header)
string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3" expected "${header}")
if(NOT name STREQUAL PORT OR NOT version STREQUAL expected)
  message(FATAL_ERROR "vcpkg.json says ${name} ${version}, the library is ${PORT} ${expected}")
endif()
foreach(needed include/ashlar/ashlar.hpp share/ashlar/ashlarConfig.cmake share/ashlar/copyright
        share/ashlar/usage share/pkgconfig/ashlar.pc)
  if(NOT EXISTS "${CURRENT_PACKAGES_DIR}/${needed}")
    message(FATAL_ERROR "the package has no ${needed}")
  endif()
endforeach()
foreach(refused debug lib share/cmake share/doc)
  if(EXISTS "${CURRENT_PACKAGES_DIR}/${refused}")
    message(FATAL_ERROR "the package has a folder ${refused}")
  endif()
endforeach()

must_run(${CMAKE_COMMAND} -G Ninja -S ${stand_ins_dir}/../find_package -B ${WORK}/consumer
         -DCMAKE_PREFIX_PATH=${CURRENT_PACKAGES_DIR})
must_run(${CMAKE_COMMAND} --build ${WORK}/consumer)
must_run(${WORK}/consumer/consumer)
message(STATUS "vcpkg port: ${name} ${version} packaged and consumed (through stand-ins of vcpkg's helpers)")
