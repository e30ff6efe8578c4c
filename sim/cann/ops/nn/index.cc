// aclnnEmbedding, aclnnIndexSelect, aclnnScatterNdUpdate, aclnnInplaceIndexCopy. An index out of range is a
// fault found while running.

#include "core/call.h"
#include "core/rows.h"

using namespace cann_sim;

namespace {

constexpr DTypes kRows = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16, ACL_INT64, ACL_BOOL, ACL_INT8, ACL_INT32};
constexpr DTypes kScattered = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16, ACL_INT64, ACL_BOOL, ACL_INT8};

// dims with [first, first + 1) replaced by `by`.
std::vector<int64_t> replaced(std::vector<int64_t> dims, int64_t first, const std::vector<int64_t>& by) {
  dims.erase(dims.begin() + first);
  dims.insert(dims.begin() + first, by.begin(), by.end());
  return dims;
}

// Of a table only the rows that are named are read or written.
uint64_t row_bytes(const View& rows, const View& index) {
  return static_cast<uint64_t>(2 * rows.bytes() + index.bytes());
}

void copy_rows(const View& from, const std::vector<int64_t>& rows, const View& to) {
  for (size_t i = 0; i < rows.size(); ++i)
    store_bytes(to.row(static_cast<int64_t>(i)), load_bytes(from.row(rows[i])));
}

}  // namespace

extern "C" {

aclnnStatus aclnnEmbeddingGetWorkspaceSize(const aclTensor* weight, const aclTensor* indices,
                                           const aclTensor* out, CANN_SIM_WS) {
  return describe("aclnnEmbedding", workspaceSize, executor, [&](Call& call) {
    const View table = call.in("weight", weight, kFloats), index = call.in("indices", indices, kIndices);
    const View to = call.out("out", out, kFloats);
    call.rank(table, 2, 2);
    call.same_dtype(table, to);
    std::vector<int64_t> wanted = index.dims;
    wanted.push_back(table.dim(1));
    call.dims(to, wanted);
    for (const View* view : {&table, &index, &to}) call.contiguous(*view);
    call.moves(row_bytes(to, index));
    call.run([=] {
      copy_rows(table, load_indices(index, table.dim(0)), to.reshaped({index.count(), table.dim(1)}));
    });
  });
}
CANN_SIM_LAUNCH(aclnnEmbedding)

aclnnStatus aclnnIndexSelectGetWorkspaceSize(const aclTensor* self, int64_t dim, const aclTensor* index,
                                             aclTensor* out, CANN_SIM_WS) {
  return describe("aclnnIndexSelect", workspaceSize, executor, [&](Call& call) {
    const View from = call.in("self", self, kRows), which = call.in("index", index, kIndices);
    const View to = call.out("out", out, kRows);
    call.require(dim == 0, "dim {}: the simulator knows dim 0 only", dim);
    call.rank(from, 1, 8);
    call.rank(which, 1, 1);
    call.same_dtype(from, to);
    call.dims(to, replaced(from.dims, 0, {which.dim(0)}));
    call.moves(row_bytes(to, which));
    call.run([=] { copy_rows(from, load_indices(which, from.dim(0)), to); });
  });
}
CANN_SIM_LAUNCH(aclnnIndexSelect)

// indices [..., 1]: rows of varRef. Deeper indices are not here.
aclnnStatus aclnnScatterNdUpdateGetWorkspaceSize(aclTensor* varRef, const aclTensor* indices,
                                                 const aclTensor* updates, CANN_SIM_WS) {
  return describe("aclnnScatterNdUpdate", workspaceSize, executor, [&](Call& call) {
    const View to = call.in_out("varRef", varRef, kScattered), from = call.in("updates", updates, kScattered);
    const View index = call.in("indices", indices, kIndices);
    call.same_dtype(to, from);
    call.rank(index, 2, 2);
    call.require(index.dim(1) == 1, "indices {}: the simulator knows a depth of 1 only", text_of(index.dims));
    call.dims(from, replaced(to.dims, 0, {index.dim(0)}));
    for (const View* view : {&to, &from, &index}) call.contiguous(*view);
    call.moves(row_bytes(from, index));
    call.run([=] { scatter_rows(from, index, to); });
  });
}
CANN_SIM_LAUNCH(aclnnScatterNdUpdate)

aclnnStatus aclnnInplaceIndexCopyGetWorkspaceSize(aclTensor* selfRef, int64_t dim, const aclTensor* index,
                                                  const aclTensor* source, CANN_SIM_WS) {
  return describe("aclnnInplaceIndexCopy", workspaceSize, executor, [&](Call& call) {
    const View to = call.in_out("selfRef", selfRef, kRows), from = call.in("source", source, kRows);
    const View which = call.in("index", index, kIndices);
    call.require(dim == 0, "dim {}: the simulator knows dim 0 only", dim);
    call.same_dtype(to, from);
    call.rank(which, 1, 1);
    call.dims(from, replaced(to.dims, 0, {which.dim(0)}));
    call.moves(row_bytes(from, which));
    call.run([=] { scatter_rows(from, which, to); });
  });
}
CANN_SIM_LAUNCH(aclnnInplaceIndexCopy)

}  // extern "C"
