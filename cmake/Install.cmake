# The public library: one shared object that carries every layer, include/longspan, and a CMake package.
include(CMakePackageConfigHelpers)

add_library(longspan_lib SHARED $<TARGET_OBJECTS:longspan_engine> $<TARGET_OBJECTS:longspan_base>)
set_target_properties(longspan_lib PROPERTIES OUTPUT_NAME longspan EXPORT_NAME longspan VERSION ${PROJECT_VERSION}
                                              SOVERSION ${PROJECT_VERSION_MAJOR})
target_include_directories(longspan_lib INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
                                                  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(longspan_lib INTERFACE cxx_std_20)
target_link_libraries(longspan_lib PRIVATE longspan_engine longspan_flags)

install(TARGETS longspan_lib EXPORT longspanTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY eval DESTINATION ${CMAKE_INSTALL_DATADIR}/longspan)
install(DIRECTORY include/longspan DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT longspanTargets NAMESPACE longspan:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/longspan)
configure_package_config_file(cmake/longspanConfig.cmake.in ${CMAKE_BINARY_DIR}/longspanConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/longspan)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/longspanConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/longspanConfig.cmake ${CMAKE_BINARY_DIR}/longspanConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/longspan)
