#include <fmt/format.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/json_out.h"
#include "device/self_check.h"

namespace longspan::cli {
namespace {

std::string verdict(const OpCheck& check) {
  if (!check.failure.empty()) return "failed: " + check.failure;
  return check.ok() ? "ok" : "wrong";
}

void print(const Device& device, const std::string& name, const std::vector<OpCheck>& checks,
           std::ostream& out) {
  out << fmt::format("{}\n", name);
  for (const auto& [what, value] : device.facts()) out << fmt::format("  {:<18} {}\n", what, value);
  out << "\nevery op once against the reference (error relative to results above 1, else absolute):\n";
  for (const OpCheck& check : checks)
    out << fmt::format("  {:<26} {:>9.2e} of {:>8.2e}  {}\n", check.op, check.error, check.bound,
                       verdict(check));
}

std::string as_json(const Device& device, const std::string& name, const std::vector<OpCheck>& checks) {
  JsonObject facts;
  for (const auto& [what, value] : device.facts()) facts.set(what, value);
  std::vector<std::string> ops;
  for (const OpCheck& check : checks)
    ops.push_back(JsonObject()
                      .set("op", check.op)
                      .set("error", check.error)
                      .set("bound", check.bound)
                      .set("ok", check.ok())
                      .set("failure", check.failure)
                      .str());
  return JsonObject().set("device", name).set("facts", facts).set_json("ops", json_array(ops)).str();
}

}  // namespace

int run_doctor(const CommonOptions& common, const DoctorOptions&, Context& context) {
  const EngineOptions& engine = common.engine;
  const auto device = make_device({.backend = engine.backend, .isa = engine.isa, .ascend = engine.ascend});
  const std::string name = device->ops().name();
  const std::vector<OpCheck> checks = check_ops(*device);
  if (common.json)
    context.out << as_json(*device, name, checks) << std::endl;
  else
    print(*device, name, checks, context.out);
  const auto wrong = std::count_if(checks.begin(), checks.end(), [](const OpCheck& c) { return !c.ok(); });
  if (wrong == 0) return kExitOk;
  context.err << fmt::format("longspan: {} of {} ops failed or gave wrong results", wrong, checks.size())
              << std::endl;
  return kExitRequestFailed;
}

}  // namespace longspan::cli
