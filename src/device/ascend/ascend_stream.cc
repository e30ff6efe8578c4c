#include "device/ascend/ascend_stream.h"

#include <algorithm>
#include <cstring>

namespace longspan::ascend {

AscendStream::AscendStream(Card& card) : card_(card) {
  card_.enter();
  card_.check(card_.acl().aclrtCreateStream(&handle_), "aclrtCreateStream");
}

AscendStream::~AscendStream() {
  // Failures were told where work was waited for; here only the end of what is under way matters. The thread
  // need not be the rank's.
  try {
    card_.enter();
  } catch (const std::exception&) {
    return;
  }
  card_.acl().aclrtSynchronizeStream(handle_);
  card_.acl().aclrtDestroyStream(handle_);
}

AclStream AscendStream::enter() {
  if (thread_ != std::this_thread::get_id()) {
    card_.enter();
    thread_ = std::this_thread::get_id();
  }
  return handle_;
}

void AscendStream::wait() {
  card_.check(card_.acl().aclrtSynchronizeStream(enter()), "aclrtSynchronizeStream");
  kept_.clear();
}

void AscendStream::copy_in(void* device, std::shared_ptr<const char> pinned, int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  card_.check(card_.acl().aclrtMemcpyAsync(device, size, pinned.get(), size, kAclHostToDevice, enter()),
              "aclrtMemcpyAsync");
  kept_.push_back(std::move(pinned));
}

const int32_t* AscendStream::table(std::span<const int32_t> values) {
  if (!table_ || !std::equal(values.begin(), values.end(), table_values_.begin(), table_values_.end())) {
    if (table_) kept_.push_back(table_);
    const auto bytes = static_cast<int64_t>(values.size_bytes());
    table_values_.assign(values.begin(), values.end());
    table_ = std::make_shared<DeviceBuffer>(card_, bytes);
    const std::shared_ptr<char> staged = card_.pinned(bytes);
    std::memcpy(staged.get(), values.data(), values.size_bytes());
    copy_in(table_->data(), staged, bytes);
  }
  return static_cast<const int32_t*>(table_->data());
}

}  // namespace longspan::ascend
