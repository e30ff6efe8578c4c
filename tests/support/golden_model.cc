#include "support/golden_model.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>

#include "support/named_values.h"
#include "support/safetensors_file.h"
#include "support/temp_dir.h"
#include "tensor/dtype.h"

namespace longspan::testing_support {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kModels = fs::path(LONGSPAN_SOURCE_DIR) / "tests/golden/models";

json read_json(const fs::path& path) {
  return json::parse(read_file(path));
}

// To nearest even; what lies beyond the range does not occur here.
uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude < 0x38800000u) {  // below 2^-14: steps of 2^-24; adding 0.5 leaves them as the lowest bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(shifted) - 0x3f000000u);
  }
  const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return sign | static_cast<uint16_t>(rounded >> 13);
}

template <class T>
void append(std::string& bytes, T value) {
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes.append(raw, sizeof(T));
}

FileTensor make_tensor(const std::string& model, const json& listed, const std::string& dtype) {
  FileTensor tensor{.name = listed[0], .dtype = dtype, .shape = listed[1], .data = {}};
  const double scale = listed[2];
  const double offset = listed[3];
  int64_t count = 1;
  for (const int64_t extent : tensor.shape) count *= extent;
  const uint64_t start = fnv1a64(model + "/" + tensor.name);
  for (int64_t i = 0; i < count; ++i) {
    const double uniform = static_cast<double>(splitmix64(start + i) >> 40) * 0x1p-23 - 1.0;
    const auto value = static_cast<float>(offset + scale * uniform);
    if (dtype == "F32") append(tensor.data, value);
    if (dtype == "F16") append(tensor.data, f32_to_f16(value));
    if (dtype == "BF16") append(tensor.data, f32_to_bf16(value));
  }
  return tensor;
}

std::string file_dtype(const json& config) {
  const std::string name = config.contains("dtype") ? config["dtype"] : config.at("torch_dtype");
  return name == "bfloat16" ? "BF16" : name == "float16" ? "F16" : "F32";
}

std::string utf8(int code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3f))};
}

// Byte-level BPE without merges: id = byte.
json byte_tokenizer() {
  json vocabulary;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    vocabulary[utf8(printable ? byte : next++)] = byte;
  }
  const json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  return {{"version", "1.0"},
          {"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", json::array()}}}};
}

// From the positions where the running minimum falls to the running minimum itself.
std::vector<double> running_minimum(const json& lows, size_t length) {
  std::vector<double> minimum(length, std::numeric_limits<double>::infinity());
  for (const json& low : lows) {
    std::fill(minimum.begin() + low[0].get<int64_t>(), minimum.end(), low[1].get<double>());
  }
  return minimum;
}

GoldenNoise read_noise(const json& noise) {
  return {noise.at("logprob"), noise.at("router"), noise.value("mean_logprob", 0.0)};
}

}  // namespace

std::vector<std::string> golden_model_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kModels)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

GoldenModel load_golden_model(const std::string& name) {
  const json golden = read_json(kModels / name / "golden.json");
  const uint64_t vocab = read_json(kModels / name / "config.json").at("vocab_size");
  GoldenModel model{.name = name,
                    .prompts = {},
                    .f32_bound = read_noise(golden.at("f32_bound")),
                    .bf16_noise = read_noise(golden.at("bf16_noise"))};
  for (const json& record : golden.at("prompts")) {
    GoldenPrompt prompt;
    const int64_t length = record.at("length");
    const uint64_t start = fnv1a64(name + "/prompt/" + record.at("seed").dump());
    for (int64_t i = 0; i < length; ++i) {
      prompt.ids.push_back(static_cast<int32_t>(splitmix64(start + i) % vocab));
    }
    prompt.logprobs = record.at("logprobs").get<std::vector<double>>();
    prompt.tokens = record.at("tokens").get<std::vector<int32_t>>();
    prompt.token_logprobs = record.at("token_logprobs").get<std::vector<double>>();
    prompt.margins = record.at("margins").get<std::vector<double>>();
    prompt.router_margins =
        running_minimum(record.at("router_lows"), prompt.ids.size() + prompt.tokens.size() - 1);
    model.prompts.push_back(std::move(prompt));
  }
  return model;
}

void write_golden_model(const std::string& name, const fs::path& target) {
  const json golden = read_json(kModels / name / "golden.json");
  const std::string config = read_file(kModels / name / "config.json");
  const std::string dtype = file_dtype(json::parse(config));
  const size_t shards = golden.at("shards");
  std::vector<std::vector<FileTensor>> files(shards);
  json weight_map;
  const auto file_name = [&](size_t shard) {
    return shards == 1 ? std::string("model.safetensors")
                       : "model-" + std::to_string(shard + 1) + ".safetensors";
  };
  size_t next = 0;
  for (const json& listed : golden.at("tensors")) {
    const size_t shard = next++ % shards;
    files[shard].push_back(make_tensor(name, listed, dtype));
    weight_map[files[shard].back().name] = file_name(shard);
  }
  const auto write = [&](const std::string& file, const std::string& bytes) {
    std::ofstream out(target / file, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) throw std::runtime_error("can't write " + (target / file).string());
  };
  for (size_t shard = 0; shard < shards; ++shard) write(file_name(shard), make_safetensors(files[shard]));
  if (shards > 1) {
    write("model.safetensors.index.json",
          json{{"metadata", json::object()}, {"weight_map", weight_map}}.dump());
  }
  write("config.json", config);
  write("tokenizer.json", byte_tokenizer().dump());
}

}  // namespace longspan::testing_support
