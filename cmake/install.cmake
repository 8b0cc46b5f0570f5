# SPDX-License-Identifier: MIT
#
# What an installed Lockstep consists of: the public headers, both libraries, a pkg-config file and a
# CMake package, so that a program finds it by `pkg-config lockstep` or find_package(lockstep). With
# LS_SIM also the simulator: `pkg-config lockstep-sim`, find_package(lockstep COMPONENTS sim).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/lockstep DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILES_MATCHING PATTERN "*.h" PATTERN sim.h EXCLUDE)
install(TARGETS lockstep_static lockstep_shared EXPORT lockstep
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/lockstep)
install(EXPORT lockstep NAMESPACE lockstep:: FILE lockstep-targets.cmake DESTINATION ${package})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/lockstep-config.cmake.in
    ${PROJECT_BINARY_DIR}/lockstep-config.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lockstep-config-version.cmake
    COMPATIBILITY SameMinorVersion) # until 1.0 a minor version may break its callers
install(FILES ${PROJECT_BINARY_DIR}/lockstep-config.cmake
    ${PROJECT_BINARY_DIR}/lockstep-config-version.cmake DESTINATION ${package})

# the prefix is found from where the file lies, so that an installed tree can be moved
file(RELATIVE_PATH LS_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" LS_PC_PREFIX ${LS_PC_PREFIX})
function(ls_install_pc name)
    configure_file(${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
ls_install_pc(lockstep)

# ls_install_sim(): called where the target is made
function(ls_install_sim)
    set_target_properties(lockstep_sim PROPERTIES EXPORT_NAME sim)
    install(FILES ${PROJECT_SOURCE_DIR}/include/lockstep/sim.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lockstep)
    install(TARGETS lockstep_sim EXPORT lockstep ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
    ls_install_pc(lockstep-sim)
endfunction()
