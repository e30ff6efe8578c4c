#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/cost.h"
#include "core/fault.h"
#include "core/handles.h"
#include "core/view.h"

// What phase 1 makes and phase 2 consumes.
struct aclOpExecutor {
  std::string op;
  int device = -1;         // where its operands lie
  uint64_t workspace = 0;  // bytes
  std::function<void()> body;
  std::vector<cann_sim::View> operands;  // checked again when it runs
  cann_sim::Cost cost;
  size_t first_written = 0;                                 // operands from here on are written
  std::vector<std::pair<const aclTensor*, void*>> tensors;  // whose addresses must stay
  bool repeatable = false;
};

namespace cann_sim {

using DTypes = std::initializer_list<aclDataType>;
inline constexpr DTypes kFloats = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16};
inline constexpr DTypes kHalves = {ACL_FLOAT16, ACL_BF16};
inline constexpr DTypes kIndices = {ACL_INT32, ACL_INT64};

/// The description of one operator call: fetches and checks operands, then says what is to be computed.
/// Argument faults are thrown as Fault with the documented code.
class Call {
 public:
  explicit Call(const char* op) : op_(op) {}

  // Operands. A null one that is mandatory is 161001; everything else that is wrong is 161002.
  View in(const char* name, const aclTensor* tensor, DTypes allowed);
  View out(const char* name, const aclTensor* tensor, DTypes allowed);
  View in_out(const char* name, const aclTensor* tensor, DTypes allowed);
  /// The only tensor of a list.
  View in_single(const char* name, const aclTensorList* list, DTypes allowed);
  View out_single(const char* name, const aclTensorList* list, DTypes allowed);
  std::vector<View> in_list(const char* name, const aclTensorList* list, DTypes allowed);
  std::vector<int64_t> integers(const char* name, const aclIntArray* array);
  double scalar(const char* name, const aclScalar* scalar);
  /// Refuses what the simulator has no rule for, by name.
  void absent(const char* name, const void* argument);

  /// 161002, 561002.
  template <class... Args>
  void require(bool ok, fmt::format_string<Args...> rule, Args&&... args) const {
    if (!ok) fail(ACLNN_ERR_PARAM_INVALID, "{}: {}", op_, fmt::format(rule, std::forward<Args>(args)...));
  }
  template <class... Args>
  void tiling(bool ok, fmt::format_string<Args...> rule, Args&&... args) const {
    if (!ok)
      fail(ACLNN_ERR_INNER_TILING_ERROR, "{}: {}", op_, fmt::format(rule, std::forward<Args>(args)...));
  }
  void rank(const View& view, int64_t lowest, int64_t highest) const;
  void dims(const View& view, const std::vector<int64_t>& wanted) const;
  /// `dim` of `view` counted from 0; negative ones count from the end.
  int64_t axis(const View& view, int64_t dim) const;
  void same_dtype(const View& a, const View& b) const;
  void contiguous(const View& view) const;
  /// An output may be exactly this input, element for element.
  void may_alias() { may_alias_ = true; }

  void workspace(uint64_t bytes) { workspace_ = bytes; }
  /// For the model of time: of products, what is multiplied and added; where an operand is not read or
  /// written as a whole, what is.
  void flops(double count) { flops_ = count; }
  void moves(uint64_t bytes) { moves_ = bytes; }
  void run(std::function<void()> body) { body_ = std::move(body); }

  std::unique_ptr<aclOpExecutor> finish();

 private:
  View view(const char* name, const aclTensor* tensor, DTypes allowed);
  const char* op_;
  uint64_t workspace_ = 0;
  double flops_ = 0;
  std::optional<uint64_t> moves_;
  bool may_alias_ = false;
  std::function<void()> body_;
  std::vector<View> inputs_, outputs_, both_;
  std::vector<std::pair<const aclTensor*, void*>> tensors_;
};

/// Phase 1 of `op`.
aclnnStatus describe(const char* op, uint64_t* workspace, aclOpExecutor** executor,
                     const std::function<void(Call&)>& what);
/// Phase 2.
aclnnStatus launch(const char* op, void* workspace, uint64_t bytes, aclOpExecutor* executor,
                   aclrtStream stream);

}  // namespace cann_sim

/// The second phase of an operator.
#define CANN_SIM_LAUNCH(op)                                                                      \
  aclnnStatus op(void* workspace, uint64_t bytes, aclOpExecutor* executor, aclrtStream stream) { \
    return cann_sim::launch(#op, workspace, bytes, executor, stream);                            \
  }
