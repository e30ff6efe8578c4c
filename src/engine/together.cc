#include "engine/together.h"

#include <fmt/format.h>

#include <numeric>

namespace longspan {

std::unique_ptr<Communicator> everyone(Job& job, JobChannel channel,
                                       std::optional<std::chrono::milliseconds> limit) {
  std::vector<int32_t> ranks(job.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return job.make_group(std::move(ranks), channel, limit);
}

std::vector<std::string> exchange_texts(Job& job, std::string_view mine, std::string_view tag) {
  const auto group = everyone(job, kOrders);
  std::vector<int64_t> bytes(job.size());
  const auto size = static_cast<int64_t>(mine.size());
  group->all_gather_v(std::as_bytes(std::span(&size, 1)), std::as_writable_bytes(std::span(bytes)),
                      std::vector<int64_t>(job.size(), sizeof(size)), tag);
  std::string all(static_cast<size_t>(std::accumulate(bytes.begin(), bytes.end(), int64_t{0})), '\0');
  group->all_gather_v(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)), bytes, tag);
  std::vector<std::string> texts;
  size_t at = 0;
  for (const int64_t count : bytes) {
    texts.push_back(all.substr(at, static_cast<size_t>(count)));
    at += static_cast<size_t>(count);
  }
  return texts;
}

void agree(Job& job, const std::optional<Error>& mine, std::string_view tag) {
  // Nothing, or the code and the message.
  const std::string text = mine ? fmt::format("{} {}", static_cast<int>(mine->code()), mine->what()) : "";
  const std::vector<std::string> texts = exchange_texts(job, text, tag);
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    if (texts[rank].empty()) continue;
    const size_t space = texts[rank].find(' ');
    const auto code = static_cast<ErrorCode>(std::stoi(texts[rank].substr(0, space)));
    const std::string message = texts[rank].substr(space + 1);
    // Most mistakes are everybody's: then rank 0 speaks as a single process would.
    throw AgreedError(code, rank == 0 ? message : fmt::format("rank {}: {}", rank, message));
  }
}

}  // namespace longspan
