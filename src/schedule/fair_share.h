#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace longspan {

/// How many prompt tokens have been computed for each tenant, so that the one that got least goes first.
/// Nobody saves up: a tenant without prompts falls behind in the count, and starts again where the others
/// are (start-time fair queueing, Goyal et al. 1996). Equal weights. Not thread-safe.
class FairShare {
 public:
  /// A tenant's index while it has sequences: smaller than size(). Each call is one sequence more.
  int32_t enter(const std::string& tenant);
  /// One sequence less. The index of a tenant without any may be given to another.
  void leave(int32_t tenant);

  /// The tenant had no prompts to compute until now.
  void begin_prompts(int32_t tenant);
  void charge(int32_t tenant, int64_t prompt_tokens);

  size_t size() const { return served_.size(); }
  /// [size()] prompt tokens, comparable with each other alone.
  const std::vector<int64_t>& served() const { return served_; }

 private:
  std::map<std::string, int32_t> indices_;
  std::vector<std::map<std::string, int32_t>::iterator> names_;  // [size()]; end(): unused
  std::vector<int64_t> sequences_;                               // [size()]
  std::vector<int64_t> served_;                                  // [size()]
  int64_t now_ = 0;                                              // the level of who was served last
};

}  // namespace longspan
