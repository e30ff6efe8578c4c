#include "server/generation_list.h"

#include <algorithm>

namespace longspan::server {

void GenerationList::add(const std::string& id, const std::weak_ptr<Generation>& generation) {
  const std::lock_guard lock(mutex_);
  generations_.emplace_back(id, generation);
}

void GenerationList::remove(const std::string& id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(generations_, [&](const auto& entry) { return entry.first == id; });
}

std::shared_ptr<Generation> GenerationList::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, generation] : generations_) {
    if (name == id) return generation.lock();
  }
  return nullptr;
}

std::vector<std::shared_ptr<Generation>> GenerationList::all() const {
  std::vector<std::shared_ptr<Generation>> all;
  const std::lock_guard lock(mutex_);
  for (const auto& [name, generation] : generations_) {
    if (auto alive = generation.lock()) all.push_back(std::move(alive));
  }
  return all;
}

}  // namespace longspan::server
