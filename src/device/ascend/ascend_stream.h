#pragma once

#include <array>
#include <memory>
#include <vector>

#include "device/ascend/card.h"
#include "device/ops.h"

namespace longspan::ascend {

/// A rank's stream of the card's runtime.
class AscendStream final : public Stream {
 public:
  explicit AscendStream(Card& card);
  ~AscendStream() override;
  AscendStream(const AscendStream&) = delete;
  AscendStream& operator=(const AscendStream&) = delete;

  void wait() override;
  Mark mark() override;
  void after(Mark mark) override;

  /// Waits as far as that is possible, in a destructor.
  void drain() noexcept;

  /// To be called before every use; a rank's thread then has the card as its device.
  AclStream enter();

  /// Enqueues a copy of `bytes` from pinned memory, which is kept until the next wait.
  void copy_in(void* device, std::shared_ptr<const void> pinned, int64_t bytes);

 private:
  void destroy() noexcept;

  Card& card_;
  AclStream handle_ = nullptr;
  bool idle_ = true;  // nothing was enqueued since the last wait
  std::array<AclEvent, 2> marks_ = {};
  size_t next_mark_ = 0;
  std::vector<std::shared_ptr<const void>> kept_;  // what enqueued work reads or writes
};

}  // namespace longspan::ascend
