#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "cli/process.h"
#include "cli/run.h"

int main(int argc, char** argv) {
  auto context = longspan::cli::process_context();
  const int code = longspan::cli::run(std::vector<std::string>(argv + 1, argv + argc), context);
  if (code == longspan::cli::kExitRankLost) {
    // A job that lost a process can't end in order: MPI would wait for it.
    std::cout.flush();
    std::cerr.flush();
    _exit(code);
  }
  return code;
}
