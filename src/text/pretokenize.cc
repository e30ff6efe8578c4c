#include "text/pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <longspan/error.h>
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/check.h"
#include "text/regex_dialect.h"

namespace longspan {
namespace {

constexpr size_t kMaxPatterns = 16;
// Backtracking steps of one match: plenty for any pattern that looks at each character a few times, while one
// that explodes ends after about a second.
constexpr uint64_t kBaseSteps = 10'000'000;
constexpr uint64_t kStepsPerByte = 64;

template <auto kFree>
struct Freed {
  template <class T>
  void operator()(T* p) const {
    kFree(p);
  }
};
using Code = std::unique_ptr<pcre2_code, Freed<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Freed<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freed<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freed<pcre2_match_data_free>>;

std::string message_of(int error) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

class Pretokenizer::Regex {
 public:
  explicit Regex(const std::string& pattern) : pattern_(pattern) {
    const std::string translated = to_pcre2_pattern(pattern);
    const CompileContext context(pcre2_compile_context_create(nullptr));
    check(context != nullptr, "pcre2_compile_context_create");
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);  // '.' is anything but a line feed
    int error = 0;
    PCRE2_SIZE at = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE, &error, &at, context.get()));
    if (code_ == nullptr) refuse(message_of(error));
    uint32_t may_be_empty = 0;
    pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &may_be_empty);
    if (may_be_empty != 0) refuse("it can match the empty text");
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // where this fails, pcre2_match interprets
  }

  void split(std::string_view text, const std::function<void(std::string_view)>& piece) const {
    const MatchData match(pcre2_match_data_create(1, nullptr));
    const MatchContext context(pcre2_match_context_create(nullptr));
    check(match != nullptr && context != nullptr, "PCRE2 allocations");
    const uint64_t steps =
        std::min<uint64_t>(kBaseSteps + kStepsPerByte * text.size(), std::numeric_limits<uint32_t>::max());
    pcre2_set_match_limit(context.get(), static_cast<uint32_t>(steps));
    pcre2_set_depth_limit(context.get(), static_cast<uint32_t>(steps));

    for (size_t at = 0; at < text.size();) {
      const auto run = [&](uint32_t options) {
        return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                           options | PCRE2_NO_UTF_CHECK, match.get(), context.get());
      };
      int found = run(0);
      // Compiled code has 32 KiB of stack, the interpreter keeps its state on the heap.
      if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = run(PCRE2_NO_JIT);
      if (found == PCRE2_ERROR_NOMATCH) {
        piece(text.substr(at));
        return;
      }
      if (found < 0) {
        throw Error(
            ErrorCode::kInvalidRequest,
            fmt::format("the pre-tokeniser regex gives up at byte {} of a text of {} bytes: {} (pattern: {})",
                        at, text.size(), message_of(found), pattern_));
      }
      const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.get());
      check(span[0] >= at && span[1] > span[0], "a match moves forward");
      if (span[0] > at) piece(text.substr(at, span[0] - at));
      piece(text.substr(span[0], span[1] - span[0]));
      at = span[1];
    }
  }

 private:
  [[noreturn]] void refuse(std::string_view why) const {
    throw Error(ErrorCode::kNotSupported, fmt::format("pre-tokeniser regex can't be used: {} (pattern: {})",
                                                      why, pattern_.substr(0, 200)));
  }

  std::string pattern_;  // as the file has it
  Code code_;
};

Pretokenizer::Pretokenizer(const std::vector<std::string>& patterns) {
  if (patterns.size() > kMaxPatterns) {
    throw Error(ErrorCode::kNotSupported,
                fmt::format("the pre-tokeniser has {} splits; at most {} are supported", patterns.size(),
                            kMaxPatterns));
  }
  for (const std::string& pattern : patterns) patterns_.push_back(std::make_unique<Regex>(pattern));
}

Pretokenizer::Pretokenizer(Pretokenizer&&) noexcept = default;
Pretokenizer& Pretokenizer::operator=(Pretokenizer&&) noexcept = default;
Pretokenizer::~Pretokenizer() = default;

void Pretokenizer::split(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  if (text.empty()) return;
  std::vector<std::string_view> pieces = {text}, finer;
  for (size_t i = 0; i + 1 < patterns_.size(); ++i) {
    finer.clear();
    for (const std::string_view p : pieces) {
      patterns_[i]->split(p, [&](std::string_view q) { finer.push_back(q); });
    }
    pieces.swap(finer);
  }
  for (const std::string_view p : pieces) {
    if (patterns_.empty()) {
      piece(p);
    } else {
      patterns_.back()->split(p, piece);
    }
  }
}

}  // namespace longspan
