#include "device/host_memory.h"

#include <fmt/format.h>
#include <longspan/error.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <new>
#include <sstream>
#include <string>

namespace longspan {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kMapFrom = int64_t{1} << 20;  // blocks from this size on are mapped

[[noreturn]] void fail(int64_t bytes) {
  throw Error(ErrorCode::kCapacity, fmt::format("out of memory: {} bytes could not be reserved", bytes));
}

int64_t read_limit(const std::string& path) {
  std::ifstream file(path);
  int64_t limit = 0;
  return file >> limit && limit > 0 ? limit : INT64_MAX;  // "max" and a missing file are no limit
}

/// The lowest limit from the group at `path` up to `root`.
int64_t lowest_limit(const std::string& root, std::string path, const char* file) {
  int64_t lowest = read_limit(root + "/" + file);
  while (path.size() > 1) {
    lowest = std::min(lowest, read_limit(root + path + "/" + file));
    path.resize(path.rfind('/'));
  }
  return lowest;
}

int64_t control_group_limit() {
  int64_t lowest = INT64_MAX;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // id:controllers:path
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty())
      lowest = std::min(lowest, lowest_limit("/sys/fs/cgroup", path, "memory.max"));
    else if (("," + controllers + ",").find(",memory,") != std::string::npos)
      lowest = std::min(lowest, lowest_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
  }
  return lowest;
}

}  // namespace

void* HostMemory::allocate(int64_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (bytes < kMapFrom) {
    void* block = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
    if (block == nullptr) fail(bytes);
    return block;
  }
  void* block = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) fail(bytes);
  if (bytes >= 2 * kHugePage) madvise(block, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return block;
}

void HostMemory::release(void* block, int64_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (bytes < kMapFrom)
    std::free(block);
  else
    munmap(block, static_cast<size_t>(bytes));
}

int64_t host_memory_bytes() {
  const int64_t physical = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
  return std::min(physical, control_group_limit());
}

HostBuffer::HostBuffer(int64_t bytes)
    : data_(static_cast<char*>(HostMemory().allocate(bytes))), bytes_(bytes) {}

HostBuffer::~HostBuffer() {
  if (data_ != nullptr) HostMemory().release(data_, bytes_);
}

}  // namespace longspan
