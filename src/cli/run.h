#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace longspan::cli {

/// The whole program: parses `args` (without the program's name), runs the command, turns whatever goes wrong
/// into one line on `context.err` (and, with --json, one object on `context.out`). Returns the exit code.
int run(const std::vector<std::string>& args, Context& context);

}  // namespace longspan::cli
