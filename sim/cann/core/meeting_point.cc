#include "core/meeting_point.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "abi/hccl.h"

namespace cann_sim {
namespace {

// The file: the state, then each rank's bytes for each slot. What is not written takes no memory.
constexpr uint64_t kData = 8192, kSlotBytes = uint64_t{64} << 30;
static_assert(sizeof(MeetingPoint::State) <= kData);
// Bytes whose locks mean something: whoever has the first may use the state, then one for each rank.
constexpr uint64_t kStateLock = 0, kRankLock = 1;
constexpr std::chrono::seconds kMostHeld(5);
constexpr std::chrono::microseconds kRetry(50);

[[noreturn]] void fail_call(const char* call) {
  fail(HCCL_E_INTERNAL, "the meeting point of a communicator: {} failed: {}", call, std::strerror(errno));
}

uint64_t place(uint32_t rank, uint32_t slot, uint64_t at) {
  return kData + (uint64_t{rank} * MeetingPoint::kSlots + slot) * kSlotBytes + at;
}

void write_all(int file, const void* data, uint64_t bytes, uint64_t at) {
  for (const auto* from = static_cast<const char*>(data); bytes > 0;) {
    const ssize_t written = pwrite(file, from, bytes, static_cast<off_t>(at));
    if (written < 0 && errno != EINTR) fail_call("pwrite");
    const auto step = static_cast<uint64_t>(written < 0 ? 0 : written);
    from += step, at += step, bytes -= step;
  }
}

void read_all(int file, void* data, uint64_t bytes, uint64_t at) {
  for (auto* to = static_cast<char*>(data); bytes > 0;) {
    const ssize_t got = pread(file, to, bytes, static_cast<off_t>(at));
    if (got == 0) errno = ENODATA;
    if (got == 0 || (got < 0 && errno != EINTR)) fail_call("pread");
    const auto step = static_cast<uint64_t>(got < 0 ? 0 : got);
    to += step, at += step, bytes -= step;
  }
}

struct flock lock_of(short kind, uint64_t byte) {
  struct flock lock = {};
  lock.l_type = kind;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(byte);
  lock.l_len = 1;
  return lock;
}

}  // namespace

MeetingPoint::MeetingPoint() : file_(memfd_create("cann_sim_hccl", MFD_CLOEXEC)) {
  if (file_ < 0) fail_call("memfd_create");
  std::random_device device;
  address_ = {.id = uint64_t{device()} << 32 | device(), .pid = getpid(), .descriptor = file_};
  State state;
  state.id = address_.id;
  write(state);
}

MeetingPoint::MeetingPoint(const Address& address) : address_(address) {
  const std::string path = fmt::format("/proc/{}/fd/{}", address.pid, address.descriptor);
  struct stat found = {};
  if (stat(path.c_str(), &found) == 0 && S_ISREG(found.st_mode))
    file_ = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY);
  uint64_t id = 0;
  const bool there = file_ >= 0 && pread(file_, &id, sizeof id, offsetof(State, id)) == sizeof id;
  if (there && id == address.id) return;
  if (file_ >= 0) close(file_);
  fail(HCCL_E_PARA,
       "HcclCommInitRootInfo: this rootInfo is used up, or process {}, which made it, has ended or can't be "
       "seen from here",
       address.pid);
}

MeetingPoint::~MeetingPoint() {
  close(file_);
}

// A process that is stopped while it holds a lock must not hold up the others for ever.
void MeetingPoint::lock(short kind, uint64_t byte) const {
  const auto held = [] {
    fail(HCCL_E_TIMEOUT, "the meeting point of a communicator is held by a process that does not go on");
  };
  if (held_) held();  // once was long enough
  struct flock wanted = lock_of(kind, byte);
  const auto give_up = std::chrono::steady_clock::now() + kMostHeld;
  while (fcntl(file_, F_OFD_SETLK, &wanted) != 0) {
    if (errno != EAGAIN && errno != EACCES && errno != EINTR) fail_call("fcntl");
    if (std::chrono::steady_clock::now() > give_up) {
      held_ = true;
      held();
    }
    std::this_thread::sleep_for(kRetry);
  }
}

MeetingPoint::State MeetingPoint::read() const {
  State state;
  read_all(file_, &state, sizeof state, 0);
  return state;
}

void MeetingPoint::write(const State& state) {
  write_all(file_, &state, sizeof state, 0);
}

// Nobody else changes the state as long as this object is there.
class MeetingPoint::Hold {
 public:
  Hold(const MeetingPoint& point, short kind) : point_(point), guard_(point.mutex_) {
    point_.lock(kind, kStateLock);
  }
  ~Hold() {
    struct flock none = lock_of(F_UNLCK, kStateLock);
    fcntl(point_.file_, F_OFD_SETLK, &none);
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

 private:
  const MeetingPoint& point_;
  const std::lock_guard<std::mutex> guard_;
};

MeetingPoint::State MeetingPoint::look() const {
  const Hold hold(*this, F_RDLCK);
  return read();
}

void MeetingPoint::change(const std::function<void(State&)>& how) {
  const Hold hold(*this, F_WRLCK);
  State state = read();
  how(state);
  write(state);
}

void MeetingPoint::sit(uint32_t rank) {
  lock(F_WRLCK, kRankLock + rank);
}

void MeetingPoint::stand_up(uint32_t rank) {
  lock(F_UNLCK, kRankLock + rank);
}

bool MeetingPoint::gone(uint32_t rank) const {
  struct flock found = lock_of(F_WRLCK, kRankLock + rank);
  if (fcntl(file_, F_OFD_GETLK, &found) != 0) fail_call("fcntl");
  return found.l_type == F_UNLCK;
}

void MeetingPoint::put(uint32_t rank, uint32_t slot, uint64_t at, const std::vector<char>& bytes) {
  write_all(file_, bytes.data(), bytes.size(), place(rank, slot, at));
}

std::vector<char> MeetingPoint::get(uint32_t rank, uint32_t slot, uint64_t at, uint64_t bytes) const {
  std::vector<char> result(bytes);
  read_all(file_, result.data(), bytes, place(rank, slot, at));
  return result;
}

}  // namespace cann_sim
