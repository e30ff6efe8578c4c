#include "server/streamed_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "server/event_reader.h"
#include "server/http_server.h"
#include "server/soon.h"

namespace longspan::server {
namespace {

using testing::ElementsAre;

TEST(EventReader, TakesEventsApartHoweverTheyAreCut) {
  const std::string stream =
      ": a comment\n\ndata: one\n\nevent: x\r\ndata: two\r\ndata:three\r\n\r\nid: 5\n\nretry: 1\n\ndata: cut";
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    EventReader reader;
    std::vector<std::string> events;
    for (size_t at = 0; at < stream.size(); at += piece) {
      reader.push(std::string_view(stream).substr(at, piece),
                  [&](std::string_view data) { events.emplace_back(data); });
    }
    EXPECT_THAT(events, ElementsAre("one", "two\nthree")) << piece;
  }
}

class StreamedAnswerTest : public testing::Test {
 protected:
  void open(HttpHandler handler) {
    server_ = std::make_unique<HttpServer>(HttpAddress{"127.0.0.1", 0}, HttpLimits{}, std::move(handler));
    server_->start();
  }
  std::unique_ptr<HttpClient> client(double timeout_s = 10) {
    return std::make_unique<HttpClient>(HttpUrl{"127.0.0.1", std::to_string(server_->port()), "/v1"}, "",
                                        timeout_s);
  }
  // Each look at the clock is a second.
  StreamedAnswer ask(HttpClient& client, Prompt prompt = "x") {
    Request request;
    request.prompt = std::move(prompt);
    return ask_streaming(client, "m", request, [this] { return static_cast<double>(++clock_); });
  }

  std::atomic<int> clock_{0};
  std::unique_ptr<HttpServer> server_;
};

std::string chunk(const std::string& choice) {
  return "data: {\"choices\": [" + choice + "]}\n\n";
}

TEST_F(StreamedAnswerTest, HasTimesOfTextsAndTheServersCounts) {
  std::atomic<int> chats{0};
  open([&](std::shared_ptr<Exchange> x) {
    const auto body = nlohmann::json::parse(x->request().body);
    const bool chat = x->request().path == "/v1/chat/completions";
    EXPECT_EQ(chat, body.contains("messages"));
    EXPECT_EQ(body["stream"], true);
    chats += chat;
    x->begin_stream("text/event-stream");
    x->write("data: {\"choices\": [], \"prompt_progress\": {}}\n\n");
    if (chat) x->write(chunk(R"({"delta": {"role": "assistant", "content": ""}})"));
    for (int i = 0; i < 3; ++i) x->write(chunk(chat ? R"({"delta": {"content": "a"}})" : R"({"text": "a"})"));
    x->write(chunk(chat ? R"({"delta": {}, "finish_reason": "stop"})" : R"({"text": ""})"));
    x->write(
        R"(data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}})"
        "\n\ndata: [DONE]\n\n");
    x->end_stream();
  });
  const auto one = client();
  for (const Prompt& prompt : {Prompt("x"), Prompt(std::vector<Message>{{"user", "x"}})}) {
    clock_ = 0;
    const StreamedAnswer answer = ask(*one, prompt);
    EXPECT_EQ(answer.failure, "");
    EXPECT_EQ(answer.first_s, 1);
    EXPECT_THAT(answer.gaps_s, ElementsAre(1, 1));
    EXPECT_EQ(answer.end_s, 4);
    EXPECT_EQ(answer.prompt_tokens, 9);
    EXPECT_EQ(answer.cached_tokens, 5);
    EXPECT_EQ(answer.new_tokens, 4);
  }
  EXPECT_EQ(chats, 1);
  EXPECT_EQ(server_->connections(), 1);  // kept
}

TEST_F(StreamedAnswerTest, NamesWhatWentWrong) {
  std::atomic<int> call{0};
  open([&](std::shared_ptr<Exchange> x) {
    const int now = call++;
    if (now == 0) return x->respond({.status = 429, .body = R"({"error": {"message": "full"}})"});
    if (now == 1) return x->respond({.status = 503, .body = ""});
    x->begin_stream("text/event-stream");
    if (now == 2) x->write(chunk(R"({"text": "a"})"));  // and no [DONE]
    if (now == 3) x->write("data: {\"error\": {\"code\": \"rank_lost\"}}\n\n");
    if (now == 4) x->write("data: {\"error\": {}}\n\n");
    if (now == 5) x->write("data: hello\n\n");
    if (now == 6) return;  // given up: the stream is cut
    if (now == 7) x->write("data: [DONE]\n\n");
    x->end_stream();
  });
  const auto one = client();
  for (const char* failure : {"status 429", "status 503", "a cut stream", "rank_lost",
                              "an error in the stream", "an event that is no JSON object"})
    EXPECT_EQ(ask(*one).failure, failure);
  // On a connection of its own: one that was kept, and is closed before an answer begins, is tried again.
  EXPECT_THAT(ask(*client()).failure, testing::AnyOf("partial message", "end of stream"));
  const StreamedAnswer empty = ask(*one);
  EXPECT_EQ(empty.failure, "");
  EXPECT_EQ(empty.first_s, empty.end_s);  // an answer without text
}

TEST_F(StreamedAnswerTest, NeverHangs) {
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> kept;
  open([&](std::shared_ptr<Exchange> x) {
    x->begin_stream("text/event-stream");
    const std::lock_guard lock(mutex);
    kept.push_back(std::move(x));
  });
  const auto impatient = client(0.2);
  EXPECT_EQ(ask(*impatient).failure, "The socket was closed due to a timeout");
  const auto stopped = client(100);
  std::thread stopper([&] {
    EXPECT_TRUE(soon([&] {
      const std::lock_guard lock(mutex);
      return kept.size() == 2;
    }));
    stopped->stop();
  });
  EXPECT_THROW(ask(*stopped), Error);
  stopper.join();
  {
    const std::lock_guard lock(mutex);
    kept.clear();
  }
  const auto late = client(5);
  server_.reset();
  EXPECT_EQ(ask(*late).failure, "Connection refused");
}

}  // namespace
}  // namespace longspan::server
