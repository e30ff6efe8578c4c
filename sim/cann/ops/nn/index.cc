// aclnnEmbedding, aclnnIndexSelect, aclnnScatterNdUpdate, aclnnInplaceIndexCopy. An index out of range is a
// fault found while running.

#include <algorithm>
#include <functional>
#include <numeric>

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

// With `axis` as the first dim.
View led_by(View view, int64_t axis) {
  std::rotate(view.dims.begin(), view.dims.begin() + axis, view.dims.begin() + axis + 1);
  std::rotate(view.strides.begin(), view.strides.begin() + axis, view.strides.begin() + axis + 1);
  return view;
}

// Rows that indices [..., depth] name in a view whose first `depth` dims are counted through.
std::vector<int64_t> rows_of(const View& index, const View& to) {
  const std::vector<int64_t> values = load_integers(index);
  const int64_t depth = index.dim(-1);
  std::vector<int64_t> rows(values.size() / static_cast<size_t>(depth));
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t axis = static_cast<int64_t>(i) % depth, limit = to.dim(axis);
    if (values[i] < 0 || values[i] >= limit)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}[{}] = {} is outside 0..{}", index.label, i, values[i],
           limit - 1);
    int64_t& row = rows[i / static_cast<size_t>(depth)];
    row = row * limit + values[i];
  }
  return rows;
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
    call.rank(from, 1, 8);
    call.rank(which, 1, 1);
    const int64_t axis = call.axis(from, dim);
    call.same_dtype(from, to);
    call.dims(to, replaced(from.dims, axis, {which.dim(0)}));
    call.moves(row_bytes(to, which));
    call.run([=] { copy_rows(led_by(from, axis), load_indices(which, from.dim(axis)), led_by(to, axis)); });
  });
}
CANN_SIM_LAUNCH(aclnnIndexSelect)

// indices [..., depth]: what is below the first `depth` dims of varRef.
aclnnStatus aclnnScatterNdUpdateGetWorkspaceSize(aclTensor* varRef, const aclTensor* indices,
                                                 const aclTensor* updates, CANN_SIM_WS) {
  return describe("aclnnScatterNdUpdate", workspaceSize, executor, [&](Call& call) {
    const View to = call.in_out("varRef", varRef, kScattered), from = call.in("updates", updates, kScattered);
    const View index = call.in("indices", indices, kIndices);
    call.same_dtype(to, from);
    call.rank(index, 2, 8);
    const int64_t depth = index.dim(-1);
    call.require(depth >= 1 && depth <= to.rank(),
                 "indices {}: the last dim must be 1 to {}, the dims of varRef", text_of(index.dims),
                 to.rank());
    std::vector<int64_t> wanted(index.dims.begin(), index.dims.end() - 1),
        below(to.dims.begin() + depth, to.dims.end());
    wanted.insert(wanted.end(), below.begin(), below.end());
    call.dims(from, wanted);
    for (const View* view : {&to, &from, &index}) call.contiguous(*view);
    call.moves(row_bytes(from, index));
    call.run([=] {
      const std::vector<int64_t> rows = rows_of(index, to);
      std::vector<int64_t> source = below, target = below;
      source.insert(source.begin(), index.count() / depth);
      target.insert(target.begin(), std::accumulate(to.dims.begin(), to.dims.begin() + depth, int64_t{1},
                                                    std::multiplies<>()));
      scatter_rows(from.reshaped(source), rows, index.label, to.reshaped(target));
    });
  });
}
CANN_SIM_LAUNCH(aclnnScatterNdUpdate)

aclnnStatus aclnnInplaceIndexCopyGetWorkspaceSize(aclTensor* selfRef, int64_t dim, const aclTensor* index,
                                                  const aclTensor* source, CANN_SIM_WS) {
  return describe("aclnnInplaceIndexCopy", workspaceSize, executor, [&](Call& call) {
    const View to = call.in_out("selfRef", selfRef, kRows), from = call.in("source", source, kRows);
    const View which = call.in("index", index, kIndices);
    const int64_t axis = call.axis(to, dim);
    call.same_dtype(to, from);
    call.rank(which, 1, 1);
    call.dims(from, replaced(to.dims, axis, {which.dim(0)}));
    call.moves(row_bytes(from, which));
    call.run([=] { scatter_rows(led_by(from, axis), which, led_by(to, axis)); });
  });
}
CANN_SIM_LAUNCH(aclnnInplaceIndexCopy)

}  // extern "C"
