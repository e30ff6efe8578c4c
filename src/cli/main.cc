#include <string>
#include <vector>

#include "cli/process.h"
#include "cli/run.h"

int main(int argc, char** argv) {
  auto context = longspan::cli::process_context();
  return longspan::cli::run(std::vector<std::string>(argv + 1, argv + argc), context);
}
