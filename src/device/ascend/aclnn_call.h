#pragma once

#include <fmt/format.h>
#include <longspan/error.h>

#include <type_traits>

#include "base/check.h"
#include "device/ascend/ascend_stream.h"
#include "device/ascend/handles.h"

namespace longspan::ascend {

/// What an op needs to enqueue kernels: the rank's stream, and scratch from its arena. Scratch, workspaces
/// among it, is handed out again only to work that is enqueued later on the same stream, so it outlives its
/// kernel whenever that runs.
struct Launcher {
  Launcher(Card& c, OpContext& ctx)
      : card(c), arena(ctx.arena), stream(stream_of(ctx)), handle(stream.enter()) {}

  Card& card;
  Arena& arena;
  AscendStream& stream;
  AclStream handle;

  Tensor tensor(Matrix m) const { return make_tensor(card, m); }
  Matrix scratch(int64_t rows, int64_t cols, DType dtype) const { return arena.matrix(rows, cols, dtype); }

 private:
  static AscendStream& stream_of(OpContext& ctx) {
    longspan::check(ctx.stream != nullptr, "ops on an NPU need a stream");
    return static_cast<AscendStream&>(*ctx.stream);
  }
};

/// Throws Error(kNotSupported) where the installed CANN lacks the operator.
template <class... Args>
void require_op(const Card& card, const AclnnOp<Args...>& op) {
  if (op.describe) [[likely]]
    return;
  throw Error(ErrorCode::kNotSupported,
              fmt::format("backend ascend: the installed CANN ({}) lacks the operator {}; looked in {}",
                          card.cann().version(), op.name, card.cann().operator_libraries()));
}

/// Phase 1 of an operator alone: its status.
template <class... Args>
AclStatus describe(const Card& card, const AclnnOp<Args...>& op, uint64_t& workspace_bytes,
                   Executor& executor, std::type_identity_t<Args>... args) {
  require_op(card, op);
  AclExecutor* made = nullptr;
  const AclStatus status = op.describe(args..., &workspace_bytes, &made);
  executor = Executor(made, DestroyExecutor{&card.base()});
  return status;
}

/// Both phases of an operator: describes the call, takes its workspace from the arena, enqueues it.
template <class... Args>
void call(const Launcher& on, const AclnnOp<Args...>& op, std::type_identity_t<Args>... args) {
  uint64_t bytes = 0;
  Executor executor;
  on.card.check(describe(on.card, op, bytes, executor, args...), op.name);
  void* workspace = bytes > 0 ? on.arena.allocate(static_cast<int64_t>(bytes)) : nullptr;
  // Phase 2 consumes the executor; whether it does so where it fails is not documented, and a leak is better
  // than a second end.
  on.card.check(op.launch(workspace, bytes, executor.release(), on.handle), op.name);
}

}  // namespace longspan::ascend
