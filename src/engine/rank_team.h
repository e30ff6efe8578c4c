#pragma once

#include <functional>
#include <memory>
#include <vector>

namespace longspan {

/// Cores that this process may use, in ascending order (the affinity mask).
std::vector<int> usable_cores();

/// Long-lived threads, each the master of its own OpenMP team. Worker w runs on `cores_of[w]`: its team has
/// as many threads, and it is pinned to them unless `pin` is false (more threads than cores).
class RankTeam {
 public:
  /// Throws Error(kCapacity) if the system refuses a thread.
  RankTeam(const std::vector<std::vector<int>>& cores_of, bool pin);
  ~RankTeam();
  RankTeam(const RankTeam&) = delete;
  RankTeam& operator=(const RankTeam&) = delete;

  int size() const;

  /// Runs body(w) on workers begin .. end-1 at once and waits for all. An exception in one calls
  /// on_failure(w, what) there, at once, so that the caller can release the others; the first is rethrown.
  void run(int begin, int end, const std::function<void(int)>& body,
           const std::function<void(int, const std::string&)>& on_failure);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longspan
