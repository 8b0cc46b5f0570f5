# SPDX-License-Identifier: MIT
#
# ls_fast(<program> <target>...): the program once more, of copies of the sources of these targets with -O3 and
# link-time optimisation over all of them. The libraries themselves stay as they are: who links them needs
# no such compiler, and a mutant is an object in front of them.

# the sources of a target that are files, with their folder
function(ls_fast_sources target out)
    get_target_property(sources ${target} SOURCES)
    get_target_property(folder ${target} SOURCE_DIR)
    list(FILTER sources INCLUDE REGEX "\\.c$")
    list(TRANSFORM sources PREPEND ${folder}/ REGEX "^[^/]")
    set(${out} ${sources} PARENT_SCOPE)
endfunction()

function(ls_fast program)
    set(objects)
    foreach(target IN LISTS ARGN)
        ls_fast_sources(${target} sources)
        get_target_property(libraries ${target} LINK_LIBRARIES)
        set(copy fast_${target})
        add_library(${copy} OBJECT EXCLUDE_FROM_ALL ${sources})
        target_include_directories(${copy} PRIVATE $<TARGET_PROPERTY:${target},INCLUDE_DIRECTORIES>)
        target_compile_options(${copy} PRIVATE $<TARGET_PROPERTY:${target},COMPILE_OPTIONS> -O3 -flto)
        target_link_libraries(${copy} PRIVATE ${libraries})
        list(APPEND objects $<TARGET_OBJECTS:${copy}>)
    endforeach()
    add_executable(${program} ${objects})
    set_target_properties(${program} PROPERTIES LINKER_LANGUAGE C)
    target_compile_options(${program} PRIVATE -O3 -flto)
    target_link_options(${program} PRIVATE -O3 -flto=auto)
    target_link_libraries(${program} PRIVATE ls_flags PkgConfig::EVENT PkgConfig::ROCKSDB PkgConfig::MSGPACK
        PkgConfig::SODIUM PkgConfig::XXHASH Threads::Threads)
endfunction()
