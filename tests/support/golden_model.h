#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace longspan::testing_support {

/// One prompt of a golden model with what transformers computed for it (tools/goldens/make_model_goldens.py).
struct GoldenPrompt {
  std::vector<int32_t> ids;            // [L]
  std::vector<double> logprobs;        // [L - 1] of ids[1..], given those before
  std::vector<int32_t> tokens;         // [N] greedy continuation
  std::vector<double> token_logprobs;  // [N]
  std::vector<double> margins;         // [N] most likely token's logit minus the next one's
  std::vector<double>
      router_margins;  // [L + N - 1] least distance of a chosen from an unchosen router logit, over
                       // all layers and all tokens up to here; infinite where nothing is chosen
};

/// How far two arithmetics lie apart: any log-probability while both route alike, any router logit, and the
/// mean over all log-probabilities of the prompts and continuations, whatever the routing.
struct GoldenNoise {
  double logprob = 0;
  double router = 0;
  double mean_logprob = 0;
};

/// tests/golden/models/<name>.
struct GoldenModel {
  std::string name;
  std::vector<GoldenPrompt> prompts;
  GoldenNoise f32_bound;   // mean_logprob is not given
  GoldenNoise bf16_noise;  // of transformers' own bf16 against its f32
};

/// All names, ascending.
std::vector<std::string> golden_model_names();

GoldenModel load_golden_model(const std::string& name);

/// Writes the model as a Hugging Face folder into the empty folder `target`: config.json, safetensors (single
/// or shards) in the config's dtype, and a tokenizer of the 256 byte tokens.
void write_golden_model(const std::string& name, const std::filesystem::path& target);

}  // namespace longspan::testing_support
