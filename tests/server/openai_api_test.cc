#include "server/openai_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "server/http_exchange.h"
#include "server/scripted_engine.h"
#include "server/soon.h"

namespace longspan::server {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using namespace std::chrono_literals;

/// A request as a connection would hand it over, and its answer.
class Asked {
 public:
  Asked(OpenAiApi& api, const std::string& method, const std::string& path, const std::string& body = "",
        const std::string& authorization = "")
      : exchange_(std::make_shared<HttpExchange>(HttpRequest{.method = method,
                                                             .path = path,
                                                             .content_type = "application/json",
                                                             .authorization = authorization,
                                                             .body = body},
                                                 1 << 20, [] {})) {
    api.handle(HttpExchange::handle(exchange_));
  }

  bool answered() {
    take();
    return response_.has_value() || ended_;
  }
  int status() {
    EXPECT_TRUE(soon([&] { return answered(); }));
    return response_ ? response_->status : streaming_ ? 200 : 0;
  }
  std::string body() {
    EXPECT_TRUE(soon([&] { return answered(); }));
    return response_ ? response_->body : stream_;
  }
  std::string header(const std::string& name) {
    for (const auto& [key, value] : response_->headers) {
      if (key == name) return value;
    }
    return "";
  }
  std::string code() { return json::parse(body())["error"]["code"]; }
  bool streaming() {
    take();
    return streaming_;
  }
  void go_away() { exchange_->leave(); }

 private:
  void take() {
    HttpExchange::Outgoing out = exchange_->take();
    if (out.whole) response_ = std::move(out.whole);
    streaming_ |= out.stream.has_value();
    stream_ += out.data;
    ended_ |= out.end;
  }

  std::shared_ptr<HttpExchange> exchange_;
  std::optional<HttpResponse> response_;
  std::string stream_;
  bool streaming_ = false, ended_ = false;
};

class OpenAiApiTest : public testing::Test {
 protected:
  void attach() {
    loop_ = std::make_unique<EngineLoop>(engine_, [this](const Error& error) { api_.fail(error.what()); });
    api_.attach(engine_, *loop_);
  }
  ~OpenAiApiTest() override {
    engine_.go = true;
    api_.detach();
    loop_.reset();
  }
  Asked ask(const std::string& fields) {
    return {api_, "POST", "/v1/completions", "{\"model\":\"m\",\"prompt\":\"p\"" + fields + "}"};
  }
  Asked get(const std::string& path) { return {api_, "GET", path}; }

  ScriptedEngine engine_;
  OpenAiApi api_{{.model_name = "m",
                  .max_requests = 3,
                  .random = [] { return uint64_t{7}; },
                  .unix_now = [] { return int64_t{1000}; },
                  .now = [] { return 0.0; }}};
  std::unique_ptr<EngineLoop> loop_;
};

TEST_F(OpenAiApiTest, RefusesUntilTheEngineIsThereAndWhenItDrains) {
  EXPECT_EQ(get("/health").status(), 503);
  EXPECT_EQ(json::parse(get("/health").body())["status"], "loading");
  EXPECT_EQ(ask("").code(), "loading");
  EXPECT_THAT(get("/metrics").body(), HasSubstr("longspan_ready{model=\"m\"} 0"));
  attach();
  EXPECT_EQ(get("/health").status(), 200);
  EXPECT_EQ(ask("").status(), 200);
  api_.drain();
  EXPECT_EQ(json::parse(get("/health").body())["status"], "draining");
  EXPECT_EQ(ask("").code(), "draining");
}

TEST_F(OpenAiApiTest, ALostRankFailsWhatRunsAndWhatComes) {
  attach();
  engine_.go = false;
  Asked whole = ask(",\"max_tokens\":90");
  engine_.die = true;
  Asked late = ask("");
  EXPECT_EQ(whole.status(), 503);
  EXPECT_THAT(whole.body(), HasSubstr("rank 1 failed"));
  EXPECT_EQ(late.status(), 503);
  EXPECT_TRUE(soon([&] { return loop_->dead().has_value(); }));
  EXPECT_EQ(ask("").code(), "rank_lost");
  Asked health = get("/health");
  EXPECT_EQ(health.status(), 503);
  EXPECT_THAT(health.body(), HasSubstr("rank 1 failed"));
}

TEST_F(OpenAiApiTest, ALostRankEndsAStreamWithAnError) {
  attach();
  Asked stream = ask(",\"max_tokens\":90,\"stream\":true");
  EXPECT_TRUE(soon([&] { return stream.streaming(); }));
  engine_.die = true;
  EXPECT_THAT(stream.body(), HasSubstr("\"code\":\"rank_lost\""));
  EXPECT_THAT(stream.body(), testing::Not(HasSubstr("[DONE]")));
}

TEST_F(OpenAiApiTest, AFullQueueIsToldWhenToComeAgain) {
  attach();
  engine_.go = false;
  Asked one = ask(",\"n\":2"), two = ask("");
  Asked full = ask("");
  EXPECT_EQ(full.status(), 429);
  EXPECT_EQ(full.code(), "queue_full");
  EXPECT_EQ(full.header("Retry-After"), "1");
  EXPECT_EQ(ask(",\"n\":4").status(), 400);
  engine_.go = true;
  EXPECT_EQ(one.status(), 200);
  EXPECT_EQ(two.status(), 200);
  EXPECT_EQ(json::parse(one.body())["choices"].size(), 2u);
  EXPECT_TRUE(soon([&] { return ask("").status() == 200; }));
}

TEST_F(OpenAiApiTest, AClientThatGoesFreesItsPlaces) {
  attach();
  engine_.go = false;
  Asked one = ask(",\"n\":3");
  EXPECT_EQ(ask("").status(), 429);
  one.go_away();
  engine_.go = true;
  EXPECT_TRUE(soon([&] { return ask("").status() == 200; }));
  EXPECT_EQ(json::parse(get("/v1/requests").body())["data"].size(), 0u);
}

TEST_F(OpenAiApiTest, AClientThatIsGoneBeforeItsRequestIsReadCountsAsCancelled) {
  attach();
  const auto exchange =
      std::make_shared<HttpExchange>(HttpRequest{.method = "POST",
                                                 .path = "/v1/completions",
                                                 .content_type = "application/json",
                                                 .body = R"({"model": "m", "prompt": "p"})"},
                                     1 << 20, [] {});
  exchange->leave();
  api_.handle(HttpExchange::handle(exchange));
  EXPECT_THAT(get("/metrics").body(),
              HasSubstr("longspan_requests_total{model=\"m\",reason=\"cancelled\"} 1"));
  EXPECT_EQ(ask(",\"n\":3").status(), 200);  // and holds no place
}

TEST_F(OpenAiApiTest, AModelThatThinksDoesNotAnswerInJsonUnlessToldNotTo) {
  engine_.described.thinks = true;
  attach();
  const std::string start = R"({"model":"m","messages":[{"role":"user","content":"p"}],"max_tokens":3,)"
                            R"("response_format":{"type":"json_object"})";
  Asked thinks(api_, "POST", "/v1/chat/completions", start + "}");
  EXPECT_EQ(thinks.status(), 400);
  EXPECT_EQ(json::parse(thinks.body())["error"]["param"], "response_format");
  Asked does_not(api_, "POST", "/v1/chat/completions",
                 start + R"(,"chat_template_kwargs":{"enable_thinking":false}})");
  EXPECT_EQ(does_not.status(), 200);
  EXPECT_THAT(engine_.samplings.back().json_schema, HasSubstr("object"));
}

TEST_F(OpenAiApiTest, RefusesASchemaByThePlaceThatIsWrong) {
  attach();
  const auto ask_json = [&](const std::string& schema) {
    Asked asked(api_, "POST", "/v1/chat/completions",
                R"({"model":"m","messages":[{"role":"user","content":"p"}],"max_tokens":3,"response_format":)"
                R"({"type":"json_schema","json_schema":{"name":"n","schema":)" +
                    schema + "}}}");
    const int status = asked.status();
    const json body = json::parse(asked.body());
    return status == 200 ? "accepted"
                         : std::to_string(status) + " " + body["error"]["param"].get<std::string>();
  };
  EXPECT_EQ(ask_json(R"({"type":"null"})"), "accepted");
  EXPECT_EQ(ask_json(R"({"properties":{"a":{"pattern":"x"}}})"),
            "400 response_format.json_schema.schema.properties.a.pattern");
  engine_.ends = false;
  EXPECT_EQ(ask_json(R"({"type":"null"})"), "400 response_format");
  engine_.ends = true;
  EXPECT_TRUE(soon([&] { return ask(",\"n\":3").status() == 200; }));  // those refused hold no place
}

TEST_F(OpenAiApiTest, FurtherChoicesWaitForTheFirst) {
  attach();
  engine_.go = false;
  Asked asked = ask(",\"n\":3,\"seed\":5,\"max_tokens\":4");
  std::this_thread::sleep_for(20ms);
  engine_.go = true;
  EXPECT_EQ(asked.status(), 200);
  ASSERT_EQ(engine_.samplings.size(), 3u);
  EXPECT_EQ(engine_.samplings[0].seed, 5u);
  EXPECT_NE(engine_.samplings[1].seed, engine_.samplings[2].seed);
}

// With several API keys each is a tenant of the engine; the keys themselves stay here.
TEST(OpenAiApiKeys, EachKeyIsATenant) {
  ScriptedEngine engine;
  OpenAiApi api({.model_name = "m",
                 .api_keys = {"sk-one", "sk-two"},
                 .random = [] { return uint64_t{7}; },
                 .unix_now = [] { return int64_t{1000}; },
                 .now = [] { return 0.0; }});
  {
    EngineLoop loop(engine, [](const Error&) {});
    api.attach(engine, loop);
    for (const char* key : {"sk-two", "sk-one", "sk-two"}) {
      Asked asked(api, "POST", "/v1/completions", R"({"model":"m","prompt":"p"})",
                  std::string("Bearer ") + key);
      EXPECT_EQ(asked.status(), 200);
    }
    Asked refused(api, "POST", "/v1/completions", R"({"model":"m","prompt":"p"})", "Bearer sk-three");
    EXPECT_EQ(refused.status(), 401);
    api.detach();
  }
  EXPECT_EQ(engine.tenants, (std::vector<std::string>{"key 1", "key 0", "key 1"}));
}

TEST_F(OpenAiApiTest, PreemptionsAreCounted) {
  attach();
  engine_.preemptions = 3;
  EXPECT_EQ(ask("").status(), 200);
  EXPECT_TRUE(soon([&] {
    return get("/metrics").body().find("longspan_preemptions_total{model=\"m\"} 3") != std::string::npos;
  }));
}

TEST_F(OpenAiApiTest, ManyClientsComeAndGo) {
  attach();
  std::vector<std::thread> clients;
  std::atomic<int> whole{0}, gone{0}, full{0};
  for (int client = 0; client < 8; ++client) {
    clients.emplace_back([&, client] {
      for (int i = 0; i < 20; ++i) {
        Asked asked = ask((client + i) % 2 ? ",\"max_tokens\":5,\"stream\":true" : ",\"max_tokens\":5");
        if ((client + i) % 3 == 0) {
          asked.go_away();
          ++gone;
        } else if (asked.status() == 200) {
          ++whole;
        } else {
          EXPECT_EQ(asked.status(), 429);
          ++full;
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(whole + gone + full, 160);
  EXPECT_GT(whole, 0);
  EXPECT_TRUE(soon([&] { return json::parse(get("/v1/requests").body())["data"].empty(); }));
  EXPECT_EQ(ask(",\"n\":3").status(), 200);  // every place is free again
}

}  // namespace
}  // namespace longspan::server
