#include "core/call.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>

#include "core/garbage.h"
#include "core/runtime.h"

namespace cann_sim {

int64_t size_of(aclDataType dtype) {
  switch (dtype) {
    case ACL_FLOAT:
    case ACL_INT32:
    case ACL_UINT32:
      return 4;
    case ACL_FLOAT16:
    case ACL_BF16:
    case ACL_INT16:
    case ACL_UINT16:
      return 2;
    case ACL_INT8:
    case ACL_UINT8:
    case ACL_BOOL:
      return 1;
    case ACL_INT64:
    case ACL_UINT64:
    case ACL_DOUBLE:
      return 8;
    default:
      return 0;
  }
}

const char* name_of(aclDataType dtype) {
  switch (dtype) {
    case ACL_FLOAT:
      return "FLOAT";
    case ACL_FLOAT16:
      return "FLOAT16";
    case ACL_INT8:
      return "INT8";
    case ACL_INT32:
      return "INT32";
    case ACL_UINT8:
      return "UINT8";
    case ACL_INT64:
      return "INT64";
    case ACL_BOOL:
      return "BOOL";
    case ACL_BF16:
      return "BF16";
    default:
      return "another dtype";
  }
}

View Call::view(const char* name, const aclTensor* tensor, DTypes allowed) {
  Runtime& runtime = Runtime::get();
  if (!tensor) fail(ACLNN_ERR_PARAM_NULLPTR, "{}: {} is null", op_, name);
  require(runtime.alive(tensor, kTensor), "{} is not a live aclTensor", name);
  require(std::find(allowed.begin(), allowed.end(), tensor->dtype) != allowed.end(),
          "{} has dtype {} ({}), which is not supported there", name, name_of(tensor->dtype),
          static_cast<int>(tensor->dtype));
  require(tensor->format == ACL_FORMAT_ND, "{} must have format ND (2), has {}", name,
          static_cast<int>(tensor->format));
  View view{.label = fmt::format("{}: {}", op_, name),
            .dims = tensor->dims,
            .strides = tensor->strides,
            .dtype = tensor->dtype,
            .data = static_cast<char*>(tensor->data) + tensor->offset * size_of(tensor->dtype)};
  if (view.count() > 0) {
    require(reinterpret_cast<uintptr_t>(tensor->data) % 32 == 0, "{} must be aligned to 32 bytes, is at {}",
            name, tensor->data);
    runtime.memory().check(view.data, static_cast<uint64_t>(view.reach() * size_of(view.dtype)), view.label,
                           ACLNN_ERR_PARAM_INVALID);
    const int device = runtime.current_device(op_, ACLNN_ERR_RUNTIME_ERROR);
    require(runtime.memory().device_of(view.data) == device,
            "{} lies on device {}, this thread has device {}", name, runtime.memory().device_of(view.data),
            device);
  }
  tensors_.emplace_back(tensor, tensor->data);
  return view;
}

View Call::in(const char* name, const aclTensor* tensor, DTypes allowed) {
  return inputs_.emplace_back(view(name, tensor, allowed));
}

View Call::out(const char* name, const aclTensor* tensor, DTypes allowed) {
  return outputs_.emplace_back(view(name, tensor, allowed));
}

View Call::in_out(const char* name, const aclTensor* tensor, DTypes allowed) {
  return both_.emplace_back(view(name, tensor, allowed));
}

std::vector<View> Call::in_list(const char* name, const aclTensorList* list, DTypes allowed) {
  if (!list) fail(ACLNN_ERR_PARAM_NULLPTR, "{}: {} is null", op_, name);
  require(Runtime::get().alive(list, kTensorList), "{} is not a live aclTensorList", name);
  std::vector<View> views;
  for (const aclTensor* tensor : list->tensors) views.push_back(in(name, tensor, allowed));
  return views;
}

View Call::in_single(const char* name, const aclTensorList* list, DTypes allowed) {
  const std::vector<View> views = in_list(name, list, allowed);
  require(views.size() == 1, "{} must be a list of one tensor, has {}", name, views.size());
  return views[0];
}

View Call::out_single(const char* name, const aclTensorList* list, DTypes allowed) {
  if (!list) fail(ACLNN_ERR_PARAM_NULLPTR, "{}: {} is null", op_, name);
  require(Runtime::get().alive(list, kTensorList), "{} is not a live aclTensorList", name);
  require(list->tensors.size() == 1, "{} must be a list of one tensor, has {}", name, list->tensors.size());
  return out(name, list->tensors[0], allowed);
}

std::vector<int64_t> Call::integers(const char* name, const aclIntArray* array) {
  if (!array) fail(ACLNN_ERR_PARAM_NULLPTR, "{}: {} is null", op_, name);
  require(Runtime::get().alive(array, kIntArray), "{} is not a live aclIntArray", name);
  return array->values;
}

double Call::scalar(const char* name, const aclScalar* scalar) {
  if (!scalar) fail(ACLNN_ERR_PARAM_NULLPTR, "{}: {} is null", op_, name);
  require(Runtime::get().alive(scalar, kScalar), "{} is not a live aclScalar", name);
  return scalar->value;
}

void Call::absent(const char* name, const void* argument) {
  require(argument == nullptr, "{} must be null here", name);
}

void Call::rank(const View& view, int64_t lowest, int64_t highest) const {
  if (view.rank() >= lowest && view.rank() <= highest) return;
  fail(ACLNN_ERR_PARAM_INVALID, "{} must have {} to {} dims, has {}", view.label, lowest, highest,
       text_of(view.dims));
}

void Call::dims(const View& view, const std::vector<int64_t>& wanted) const {
  if (view.dims != wanted)
    fail(ACLNN_ERR_PARAM_INVALID, "{} must have dims {}, has {}", view.label, text_of(wanted),
         text_of(view.dims));
}

int64_t Call::axis(const View& view, int64_t dim) const {
  const int64_t axis = dim < 0 ? view.rank() + dim : dim;
  require(axis >= 0 && axis < view.rank(), "dim {} is outside {} dims", dim, view.rank());
  return axis;
}

void Call::same_dtype(const View& a, const View& b) const {
  if (a.dtype != b.dtype)
    fail(ACLNN_ERR_PARAM_INVALID, "{} is {}, but {} is {}: they must be the same", a.label, name_of(a.dtype),
         b.label, name_of(b.dtype));
}

void Call::contiguous(const View& view) const {
  if (!view.contiguous())
    fail(ACLNN_ERR_PARAM_INVALID, "{} must be contiguous; dims {}, strides {}", view.label,
         text_of(view.dims), text_of(view.strides));
}

namespace {

uint64_t bytes_of(const std::vector<View>& views) {
  uint64_t sum = 0;
  for (const View& view : views) sum += static_cast<uint64_t>(view.bytes());
  return sum;
}

}  // namespace

std::unique_ptr<aclOpExecutor> Call::finish() {
  const auto disjoint = [&](const View& a, const View& b) {
    if (overlap(a, b) && !(may_alias_ && same_memory(a, b)))
      fail(ACLNN_ERR_PARAM_INVALID, "{} overlaps {}", a.label, b.label);
  };
  for (size_t i = 0; i < outputs_.size(); ++i) {
    for (const View& input : inputs_) disjoint(outputs_[i], input);
    for (const View& both : both_) disjoint(outputs_[i], both);
    for (size_t j = 0; j < i; ++j) disjoint(outputs_[i], outputs_[j]);
  }
  for (size_t i = 0; i < both_.size(); ++i) {
    for (const View& input : inputs_) disjoint(both_[i], input);
    for (size_t j = 0; j < i; ++j) disjoint(both_[i], both_[j]);
  }
  auto executor = std::make_unique<aclOpExecutor>();
  executor->op = op_;
  executor->workspace = workspace_;
  executor->body = std::move(body_);
  executor->tensors = std::move(tensors_);
  executor->cost = {
      .flops = flops_,
      .hbm_bytes = moves_.value_or(bytes_of(inputs_) + bytes_of(outputs_) + 2 * bytes_of(both_))};
  executor->first_written = inputs_.size();
  for (auto* views : {&inputs_, &outputs_, &both_})
    executor->operands.insert(executor->operands.end(), views->begin(), views->end());
  return executor;
}

aclnnStatus describe(const char* op, uint64_t* workspace, aclOpExecutor** executor,
                     const std::function<void(Call&)>& what) {
  return guarded([&] {
    Runtime& runtime = Runtime::get();
    const int device = runtime.current_device(op, ACLNN_ERR_RUNTIME_ERROR);
    const char* opp = std::getenv("ASCEND_OPP_PATH");
    if (!opp || !*opp)
      fail(ACLNN_ERR_INNER_OPP_PATH_NOT_FOUND, "{}: ASCEND_OPP_PATH is not set (source set_env.sh)", op);
    if (!workspace) fail(ACLNN_ERR_PARAM_NULLPTR, "{}: workspaceSize is null", op);
    if (!executor) fail(ACLNN_ERR_PARAM_NULLPTR, "{}: executor is null", op);
    *executor = nullptr;
    runtime.disturb((std::string(op) + "GetWorkspaceSize").c_str());
    Call call(op);
    what(call);
    std::unique_ptr<aclOpExecutor> made = call.finish();
    made->device = device;
    *workspace = made->workspace;
    runtime.born(made.get(), kExecutor);
    runtime.count(std::string("phase1:") + op);
    *executor = made.release();
  });
}

namespace {

void check_workspace(const aclOpExecutor& executor, void* workspace, int device) {
  const std::string label = executor.op + ": workspace";
  DeviceMemory& memory = Runtime::get().memory();
  memory.check(workspace, executor.workspace, label, ACLNN_ERR_PARAM_INVALID);
  if (memory.device_of(workspace) != device)
    fail(ACLNN_ERR_PARAM_INVALID, "{} lies on device {}, the stream is of device {}", label,
         memory.device_of(workspace), device);
  const View bytes{.label = label,
                   .dims = {static_cast<int64_t>(executor.workspace)},
                   .strides = {1},
                   .dtype = ACL_INT8,
                   .data = static_cast<char*>(workspace)};
  for (const View& operand : executor.operands)
    if (overlap(bytes, operand)) fail(ACLNN_ERR_PARAM_INVALID, "{} overlaps {}", label, operand.label);
}

}  // namespace

aclnnStatus launch(const char* op, void* workspace, uint64_t bytes, aclOpExecutor* executor,
                   aclrtStream handle) {
  return guarded([&] {
    Runtime& runtime = Runtime::get();
    if (!executor) fail(ACLNN_ERR_PARAM_NULLPTR, "{}: executor is null", op);
    if (!runtime.alive(executor, kExecutor))
      fail(ACLNN_ERR_INNER_NULLPTR, "{}: the executor was used before; one phase 2 per phase 1", op);
    if (executor->op != op)
      fail(ACLNN_ERR_PARAM_INVALID, "{}: the executor was made for {}", op, executor->op);
    Stream& stream = runtime.stream_of(handle, op);
    if (executor->device != stream.device)
      fail(ACLNN_ERR_PARAM_INVALID, "{}: the executor was made on device {}, the stream is of device {}", op,
           executor->device, stream.device);
    for (const auto& [tensor, address] : executor->tensors) {
      if (!runtime.alive(tensor, kTensor))
        fail(ACLNN_ERR_PARAM_INVALID, "{}: a tensor was destroyed between phase 1 and phase 2", op);
      if (tensor->data != address)
        fail(ACLNN_ERR_PARAM_INVALID, "{}: a tensor's address was changed between phase 1 and phase 2", op);
    }
    if (executor->workspace > 0) {
      if (!workspace)
        fail(ACLNN_ERR_PARAM_NULLPTR, "{}: workspace is null, {} bytes are needed", op, executor->workspace);
      if (bytes < executor->workspace)
        fail(ACLNN_ERR_PARAM_INVALID, "{}: a workspace of {} bytes is too small, {} are needed", op, bytes,
             executor->workspace);
      check_workspace(*executor, workspace, stream.device);
    }
    std::shared_ptr<const aclOpExecutor> kept;
    if (executor->repeatable) {
      kept = std::make_shared<aclOpExecutor>(*executor);
    } else {
      runtime.died(executor, kExecutor);
      kept.reset(executor);
    }
    // Where the launch itself fails the executor is gone, as where it succeeds.
    const Disturbance what = runtime.disturbed(op);
    runtime.count("launch");
    runtime.count(std::string("launch:") + op);
    runtime.conductor().enqueue(
        stream, {.name = op,
                 .run =
                     [kept, workspace, garbage = what.garbage] {
                       DeviceMemory& memory = Runtime::get().memory();
                       for (const View& view : kept->operands)
                         if (view.count() > 0)
                           memory.check(view.data, static_cast<uint64_t>(view.reach() * size_of(view.dtype)),
                                        view.label, ACL_ERROR_RT_AICORE_EXCEPTION);
                       // A kernel uses its workspace: whatever else lies there is lost.
                       if (kept->workspace > 0)
                         std::memset(memory.write(workspace, kept->workspace, kept->op + ": workspace",
                                                  ACL_ERROR_RT_AICORE_EXCEPTION),
                                     0xff, kept->workspace);
                       kept->body();
                       for (const View& view : std::span(kept->operands).subspan(kept->first_written))
                         spoil(view, garbage);
                     },
                 .stall = what.stall,
                 .timing = {.kind = "launch", .cost = kept->cost}});
  });
}

}  // namespace cann_sim
