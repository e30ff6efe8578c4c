#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace longspan::server {

class Generation;

/// The generations that have not ended, by their API id. From any thread.
class GenerationList {
 public:
  void add(const std::string& id, const std::weak_ptr<Generation>& generation);
  void remove(const std::string& id);

  std::shared_ptr<Generation> find(const std::string& id) const;
  /// In order of arrival.
  std::vector<std::shared_ptr<Generation>> all() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::pair<std::string, std::weak_ptr<Generation>>> generations_;
};

}  // namespace longspan::server
