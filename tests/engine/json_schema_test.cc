#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <nlohmann/json.hpp>

namespace longspan {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr char kSchema[] = R"({"type": "object", "properties": {"z": {"type": "string", "maxLength": 5},
    "a": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}}, "required": ["z", "a"]})";

class JsonSchemaTest : public testing::Test {
 protected:
  void SetUp() override {
    EngineOptions options;
    options.model = LONGSPAN_SOURCE_DIR "/models/recall-moe";
    options.dtype = ComputeType::kF32;
    options.max_total_tokens = 2048;
    options.threads = 1;
    engine_ = Engine::open(options);
  }
  Request request(const std::string& schema) {
    Request request;
    request.prompt = std::string("It was the best of times, it was the worst of times");
    request.sampling.max_tokens = 300;
    request.sampling.json_schema = schema;
    return request;
  }

  std::unique_ptr<Engine> engine_;
};

TEST_F(JsonSchemaTest, AnswersFitAndEndWhereTheValueDoes) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Request drawn = request(kSchema);
    drawn.sampling.temperature = seed == 0 ? 0.0f : 2.0f;
    drawn.sampling.seed = seed;
    drawn.sampling.repetition_penalty = 1.2f;
    const Result result = engine_->generate(std::move(drawn));
    EXPECT_EQ(result.finish_reason, FinishReason::kStop) << result.text;
    const json value = json::parse(result.text, nullptr, false);
    ASSERT_TRUE(value.is_object()) << result.text;
    EXPECT_TRUE(value["z"].is_string() && value["a"].is_array()) << result.text;
    EXPECT_TRUE(value["a"].size() == 1 || value["a"].size() == 2) << result.text;
    EXPECT_LT(result.text.find("\"z\""), result.text.find("\"a\""));
  }
}

TEST_F(JsonSchemaTest, TwoAnswersAtOnceEachFitTheirOwn) {
  std::vector<std::string> alone, together(2);
  const std::vector<std::string> schemas = {
      kSchema, R"({"type": "array", "items": {"enum": ["x", "yy"]}, "minItems": 3,
      "maxItems": 3})"};
  for (const std::string& schema : schemas) alone.push_back(engine_->generate(request(schema)).text);
  for (size_t i = 0; i < schemas.size(); ++i) {
    Request asked = request(schemas[i]);
    asked.on_finish = [&, i](const Result& result) { together[i] = result.text; };
    engine_->submit(std::move(asked));
  }
  engine_->run();
  EXPECT_EQ(together, alone);
  EXPECT_TRUE(json::parse(together[0], nullptr, false).is_object()) << together[0];
  const json list = json::parse(together[1], nullptr, false);
  ASSERT_TRUE(list.is_array() && list.size() == 3) << together[1];
  for (const json& item : list) EXPECT_TRUE(item == "x" || item == "yy") << item;
}

// Lists in lists, each of one of two kinds that tell only at their end which of them they are.
TEST_F(JsonSchemaTest, ASchemaThatAsksTooMuchFailsItsRequestAlone) {
  std::string defs = R"("a0": {"type": "null"})";
  for (int i = 1; i <= 20; ++i) {
    const std::string items = R"({"items": {"$ref": "#/$defs/a)" + std::to_string(i - 1) + "\"}, ";
    defs += ", \"a" + std::to_string(i) + R"(": {"anyOf": [)" + items + R"("minItems": 1}, )" + items +
            R"("minItems": 1, "maxItems": 2}]})";
  }
  Result heavy, other;
  Request asked = request(R"({"$ref": "#/$defs/a20", "$defs": {)" + defs + "}}");
  asked.on_finish = [&](const Result& result) { heavy = result; };
  engine_->submit(std::move(asked));
  asked = request(kSchema);
  asked.on_finish = [&](const Result& result) { other = result; };
  engine_->submit(std::move(asked));
  engine_->run();
  EXPECT_EQ(heavy.error_code, ErrorCode::kInvalidRequest);
  EXPECT_THAT(heavy.error_message, HasSubstr("too many alternatives begin alike"));
  EXPECT_EQ(other.finish_reason, FinishReason::kStop);
  EXPECT_EQ(other.text, engine_->generate(request(kSchema)).text);
  engine_->check_integrity();
}

TEST_F(JsonSchemaTest, RefusesWhatItCanNotHold) {
  std::vector<Result> results;
  const auto submit = [&](Request asked) {
    asked.on_finish = [&](const Result& result) { results.push_back(result); };
    engine_->submit(std::move(asked));
    engine_->run();
  };
  submit(request(R"({"type": "string", "pattern": "a"})"));
  Request endless = request(kSchema);
  endless.sampling.ignore_eos = true;
  submit(std::move(endless));
  ASSERT_EQ(results.size(), 2u);
  for (const Result& result : results) EXPECT_EQ(result.error_code, ErrorCode::kInvalidRequest);
  EXPECT_THAT(results[0].error_message, HasSubstr("json_schema.pattern: is not supported"));
  EXPECT_THAT(results[1].error_message, HasSubstr("ignore_eos can't be combined with json_schema"));
}

}  // namespace
}  // namespace longspan
