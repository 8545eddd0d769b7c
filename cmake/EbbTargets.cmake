# SPDX-License-Identifier: Apache-2.0
# Functions that turn directories into targets.

set(EBB_INSTALL_SBIN "")
set(EBB_INSTALL_BIN "")

# ebb_layer(NAME deps...): daemon/NAME as static library ebb_NAME; main.cc files stay out.
# A layer without sources (headers alone) is an interface library. Dependencies that are
# names of layers become ebb_<layer>; everything else is linked as given.
function(ebb_layer name)
    set(deps "")
    foreach(dep IN LISTS ARGN)
        if(TARGET ebb_${dep})
            list(APPEND deps ebb_${dep})
        else()
            list(APPEND deps ${dep})
        endif()
    endforeach()
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/daemon/${name}/*.cc)
    list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
    if(sources)
        add_library(ebb_${name} STATIC ${sources})
        set(scope PUBLIC)
    else()
        add_library(ebb_${name} INTERFACE)
        set(scope INTERFACE)
    endif()
    target_include_directories(ebb_${name} ${scope}
        ${CMAKE_SOURCE_DIR}/daemon ${CMAKE_SOURCE_DIR}/include/uapi)
    target_link_libraries(ebb_${name} ${scope} ${deps})
endfunction()

# ebb_program(NAME main.cc libs...): an executable installed in sbin.
function(ebb_program name main)
    if(EXISTS ${CMAKE_SOURCE_DIR}/${main})
        add_executable(${name} ${CMAKE_SOURCE_DIR}/${main})
        target_link_libraries(${name} PRIVATE ${ARGN})
        set(EBB_INSTALL_SBIN ${EBB_INSTALL_SBIN} ${name} PARENT_SCOPE)
    endif()
endfunction()

# ebb_tool(NAME dir libs...): all of dir/*.cc but main.cc as library ebb_<dir> (for its tests),
# and an executable installed in bin.
function(ebb_tool name dir)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/*.cc)
    list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
    if(sources)
        add_library(ebb_${dir} STATIC ${sources})
        target_include_directories(ebb_${dir} PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/daemon)
        target_link_libraries(ebb_${dir} PUBLIC ${ARGN})
    endif()
    if(EXISTS ${CMAKE_SOURCE_DIR}/${dir}/main.cc)
        add_executable(${name} ${CMAKE_SOURCE_DIR}/${dir}/main.cc)
        target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/daemon)
        if(TARGET ebb_${dir})
            target_link_libraries(${name} PRIVATE ebb_${dir})
        endif()
        target_link_libraries(${name} PRIVATE ${ARGN})
        set(EBB_INSTALL_BIN ${EBB_INSTALL_BIN} ${name} PARENT_SCOPE)
    endif()
endfunction()

# ebb_unit_tests(NAME libs...): tests/unit/NAME/*.cc as one GoogleTest executable ebb_NAME_test.
function(ebb_unit_tests name)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/${name}/*.cc)
    if(NOT sources)
        return()
    endif()
    add_executable(ebb_${name}_test ${sources})
    target_include_directories(ebb_${name}_test PRIVATE ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR})
    target_compile_definitions(ebb_${name}_test PRIVATE EBB_TOP="${CMAKE_SOURCE_DIR}")
    # They run for less time than it takes to optimise them; what they test is optimised.
    target_compile_options(ebb_${name}_test PRIVATE -O1)
    target_link_libraries(ebb_${name}_test PRIVATE ${ARGN} GTest::gmock GTest::gtest GTest::gtest_main
        Threads::Threads)
    add_dependencies(ebb_unit ebb_${name}_test)
    gtest_discover_tests(ebb_${name}_test TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST
        PROPERTIES LABELS unit TIMEOUT 600)
endfunction()
