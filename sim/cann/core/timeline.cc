#include "core/timeline.h"

#include <cstdio>
#include <set>
#include <string_view>

#include "abi/acl.h"
#include "core/fault.h"

namespace cann_sim {
namespace {

uint64_t bytes_of(const Record& r) {
  return std::string_view(r.kind) == "collective" ? r.cost.hccs_bytes : r.cost.hbm_bytes;
}

std::string name_of_row(int row) {
  if (row >= Record::kHostRow) return fmt::format("host thread {}", row - Record::kHostRow);
  return row == 0 ? "default stream" : fmt::format("stream {}", row);
}

// The name of a record's device, or of its row.
std::string name_event(const char* what, const Record& r, const std::string& name) {
  return fmt::format(R"({{"name":"{}","ph":"M","pid":{},"tid":{},"args":{{"name":"{}"}}}})", what, r.device,
                     r.row, name);
}

std::string event_of(const Record& r) {
  return fmt::format(
      R"({{"name":"{}","cat":"{}","ph":"X","pid":{},"tid":{},"ts":{:.6f},"dur":{:.6f},"args":{{"flops":{:.0f},)"
      R"("hbm_bytes":{},"hccs_bytes":{},"host_bytes":{}}}}})",
      r.name, r.kind, r.device, r.row, r.begin * 1e6, (r.end - r.begin) * 1e6, r.cost.flops, r.cost.hbm_bytes,
      r.cost.hccs_bytes, r.cost.host_bytes);
}

}  // namespace

void Timeline::record(bool on) {
  const std::lock_guard lock(mutex_);
  records_.clear();
  on_ = on;
}

std::shared_ptr<Record> Timeline::add(Record record) {
  if (!on_) return nullptr;
  const std::lock_guard lock(mutex_);
  return records_.emplace_back(std::make_shared<Record>(std::move(record)));
}

void Timeline::ran(Record& record, double begin, double end) {
  const std::lock_guard lock(mutex_);
  record.begin = begin;
  record.end = end;
  record.ran = true;
}

std::string Timeline::journal(int device) const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& r : records_)
    if (r->device == device)
      text += fmt::format("{} {} {} {}\n", r->row, r->kind, r->name, bytes_of(*r));
  return text;
}

void Timeline::write(const std::string& path, const Card& card) const {
  const std::lock_guard lock(mutex_);
  std::string text = "{\"traceEvents\":[";
  const auto add = [&](const std::string& event) {
    text += text.back() == '[' ? "\n" : ",\n";
    text += event;
  };
  std::set<std::pair<int, int>> rows;  // of devices; row -1: the device itself
  for (const auto& r : records_) {
    const std::string device = fmt::format("device {} ({}, modelled)", r->device, card.name);
    if (rows.insert({r->device, -1}).second) add(name_event("process_name", *r, device));
    if (rows.insert({r->device, r->row}).second) add(name_event("thread_name", *r, name_of_row(r->row)));
    if (r->ran) add(event_of(*r));
  }
  text += "\n],\"displayTimeUnit\":\"ns\"}\n";
  std::FILE* file = std::fopen(path.c_str(), "w");
  const bool written = file && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if ((file && std::fclose(file) != 0) || !written)
    fail(ACL_ERROR_INVALID_PARAM, "the trace {} can't be written", path);
}

}  // namespace cann_sim
