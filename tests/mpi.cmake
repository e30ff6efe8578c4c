# Tests whose processes mpirun starts: as root too, more of them than cores, one thread each.
find_program(MPIRUN mpirun)
if(NOT MPIRUN)
  message(STATUS "mpirun not found: no tests over MPI")
  return()
endif()
set(mpi_environment OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
    OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_pml=ob1 OMPI_MCA_btl=vader,tcp,self OMP_NUM_THREADS=1)

add_executable(test_comm_mpi comm/mpi/mpi_comm_test.cc)
target_include_directories(test_comm_mpi PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(test_comm_mpi PRIVATE longspan_comm longspan_flags GTest::gmock GTest::gtest)

function(longspan_mpi_test name processes filter)
  add_test(NAME ${name} COMMAND ${MPIRUN} -n ${processes} $<TARGET_FILE:test_comm_mpi> --gtest_filter=${filter}
                                --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "${mpi_environment}" TIMEOUT 120)
endfunction()

# A test that loses its job ends with exit code 5 in every process: that is its success.
function(longspan_mpi_failure_test name)
  add_test(NAME comm_mpi_${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/comm/mpi/expect_lost.sh
           ${MPIRUN} -n 3 $<TARGET_FILE:test_comm_mpi> --gtest_filter=MpiFailure.${name} --gtest_brief=1)
  set_tests_properties(comm_mpi_${name} PROPERTIES ENVIRONMENT "${mpi_environment}" TIMEOUT 120)
endfunction()

foreach(processes 1 2 3 4)
  longspan_mpi_test(comm_mpi_${processes} ${processes} MpiComm.*)
endforeach()
longspan_mpi_test(comm_mpi_end 3 MpiEnd.*)
longspan_mpi_test(comm_mpi_idle 2 MpiIdle.*)
file(STRINGS comm/mpi/mpi_comm_test.cc failures REGEX "^TEST\\(MpiFailure")
foreach(line IN LISTS failures)
  string(REGEX REPLACE "TEST\\(MpiFailure, ([A-Za-z]+)\\).*" "\\1" name "${line}")
  longspan_mpi_failure_test(${name})
endforeach()
set_property(TEST comm_mpi_AHungFinalizeNamesTheOthers APPEND PROPERTY ENVIRONMENT SILENCE_LIMIT_MS=4000)

add_executable(test_engine_mpi engine/mpi/golden_mpi_test.cc engine/golden_layouts.cc engine/golden_check.cc)
target_include_directories(test_engine_mpi PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(test_engine_mpi PRIVATE LONGSPAN_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
target_link_libraries(test_engine_mpi PRIVATE longspan_engine test_support longspan_flags GTest::gtest)
foreach(processes 2 3 4 6 8)
  add_test(NAME golden_mpi_${processes} COMMAND ${MPIRUN} -n ${processes} $<TARGET_FILE:test_engine_mpi> --gtest_brief=1)
  # They wait for each other busily: nothing beside them.
  set_tests_properties(golden_mpi_${processes} PROPERTIES ENVIRONMENT "${mpi_environment}" TIMEOUT 1200 PROCESSORS 4)
endforeach()

# The program over mpirun: the same tokens as with threads, and what happens when a rank is lost.
add_library(signal_at_open MODULE support/signal_at_open.c)
target_link_libraries(signal_at_open PRIVATE ${CMAKE_DL_LIBS})
add_test(NAME mpi_failure COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/cli/mpi_failure.py ${CMAKE_SOURCE_DIR}
         $<TARGET_FILE:longspan> $<TARGET_FILE:signal_at_open> ${MPIRUN})
add_test(NAME mpi_end_to_end COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/cli/mpi_end_to_end.py ${CMAKE_SOURCE_DIR}
         $<TARGET_FILE:longspan> ${MPIRUN})
set_tests_properties(mpi_failure PROPERTIES ENVIRONMENT "${mpi_environment}" TIMEOUT 600 COST 50)
# Where all processes end by themselves mpirun need not give them time to.
set_tests_properties(mpi_end_to_end PROPERTIES ENVIRONMENT "${mpi_environment};OMPI_MCA_odls_base_sigkill_timeout=0"
                                               TIMEOUT 600)

add_test(NAME resident_memory COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/cli/resident_memory.py ${CMAKE_SOURCE_DIR}
         $<TARGET_FILE:longspan> ${MPIRUN})
set_tests_properties(resident_memory PROPERTIES ENVIRONMENT "${mpi_environment}" TIMEOUT 600)

# On cards of the CANN simulator.
foreach(what answers lost serve)
  add_test(NAME hccl_${what} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/cli/hccl_end_to_end.py ${CMAKE_SOURCE_DIR}
           $<TARGET_FILE:longspan> ${MPIRUN} ${CMAKE_BINARY_DIR}/sim/cann/8.5 ${what})
  set_tests_properties(hccl_${what} PROPERTIES ENVIRONMENT "${mpi_environment}" TIMEOUT 300)
endforeach()

# A server whose ranks are processes.
foreach(checks "answers;refusals" "restart;killed_front" "loss;idle_loss" under_mpirun hccl)
  list(GET checks 0 name)
  add_test(NAME serve_front_${name} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/server/serve_front.py ${CMAKE_SOURCE_DIR}
           $<TARGET_FILE:longspan> ${MPIRUN} ${checks})
  set_tests_properties(serve_front_${name} PROPERTIES ENVIRONMENT "${mpi_environment}" TIMEOUT 600)
endforeach()
set_property(TEST serve_front_hccl APPEND PROPERTY ENVIRONMENT ASCEND_HOME_PATH=${CMAKE_BINARY_DIR}/sim/cann/8.5 ASCEND_OPP_PATH=/any)

add_test(NAME mpi_hosts COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/cli/mpi_hosts.py ${CMAKE_SOURCE_DIR}
         $<TARGET_FILE:longspan> $<TARGET_FILE:signal_at_open> ${MPIRUN})
set_tests_properties(mpi_hosts PROPERTIES ENVIRONMENT "${mpi_environment}" TIMEOUT 600 SKIP_RETURN_CODE 77)
add_test(NAME serve_hosts COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/server/serve_hosts.py ${CMAKE_SOURCE_DIR}
         $<TARGET_FILE:longspan> ${MPIRUN})
set_tests_properties(serve_hosts PROPERTIES ENVIRONMENT "${mpi_environment}" TIMEOUT 600 COST 50 SKIP_RETURN_CODE 77)

# UCX wants to choose the transport itself.
string(REGEX REPLACE "OMPI_MCA_(pml|btl)=[^;]*;?" "" ucx_environment "${mpi_environment}")
add_test(NAME mpi_ucx COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/cli/mpi_ucx.py ${CMAKE_SOURCE_DIR} $<TARGET_FILE:longspan>
         ${MPIRUN})
set_tests_properties(mpi_ucx PROPERTIES ENVIRONMENT "${ucx_environment}" TIMEOUT 600 SKIP_RETURN_CODE 77)
