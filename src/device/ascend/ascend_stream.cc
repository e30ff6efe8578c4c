#include "device/ascend/ascend_stream.h"

namespace longspan::ascend {

AscendStream::AscendStream(Card& card) : card_(card) {
  card_.enter();
  card_.check(card_.acl().aclrtCreateStream(&handle_), "aclrtCreateStream");
  try {
    for (AclEvent& mark : marks_)
      card_.check(card_.acl().aclrtCreateEventExWithFlag(&mark, kAclEventSync), "aclrtCreateEventExWithFlag");
  } catch (...) {
    destroy();
    throw;
  }
}

// Failures were told where work was waited for; here only the end of what is under way matters. The thread
// need not be the rank's.
void AscendStream::drain() noexcept {
  if (card_.acl().aclrtSetDevice(card_.device()) == 0) card_.acl().aclrtSynchronizeStream(handle_);
}

AscendStream::~AscendStream() {
  drain();
  destroy();
}

void AscendStream::destroy() noexcept {
  if (card_.acl().aclrtSetDevice(card_.device()) != 0) return;
  for (AclEvent mark : marks_)
    if (mark) card_.acl().aclrtDestroyEvent(mark);
  card_.acl().aclrtDestroyStream(handle_);
}

AclStream AscendStream::enter() {
  card_.enter();  // each time: others may set the thread's device, too
  idle_ = false;
  return handle_;
}

void AscendStream::wait() {
  if (idle_) return;
  card_.check(card_.acl().aclrtSynchronizeStream(enter()), "aclrtSynchronizeStream");
  idle_ = true;
  kept_.clear();
}

Stream::Mark AscendStream::mark() {
  const AclEvent mark = marks_[next_mark_++ % marks_.size()];
  card_.check(card_.acl().aclrtRecordEvent(mark, enter()), "aclrtRecordEvent");
  return mark;
}

void AscendStream::after(Mark mark) {
  card_.check(card_.acl().aclrtStreamWaitEvent(enter(), mark), "aclrtStreamWaitEvent");
}

void AscendStream::copy_in(void* device, std::shared_ptr<const void> pinned, int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  const AclStream on = enter();
  kept_.push_back(pinned);
  card_.check(card_.acl().aclrtMemcpyAsync(device, size, pinned.get(), size, kAclHostToDevice, on),
              "aclrtMemcpyAsync");
}

}  // namespace longspan::ascend
