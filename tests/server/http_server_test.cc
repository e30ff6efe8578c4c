#include "server/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>

#include <atomic>
#include <chrono>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "server/raw_client.h"
#include "server/soon.h"

namespace longspan::server {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;

/// A server whose exchanges are kept until a test answers them, unless the path says what to do.
class HttpServerTest : public testing::Test {
 protected:
  void open(HttpLimits limits = {}) {
    server_ = std::make_unique<HttpServer>(HttpAddress{"127.0.0.1", 0}, limits,
                                           [this](std::shared_ptr<Exchange> x) { handle(std::move(x)); });
    server_->start();
  }
  ~HttpServerTest() override {
    kept_.clear();
    server_.reset();
  }

  void handle(std::shared_ptr<Exchange> exchange) {
    const HttpRequest& request = exchange->request();
    if (request.path == "/echo") {
      exchange->respond({.body = request.method + " " + request.body, .content_type = "text/plain"});
    } else if (request.path == "/stream") {
      exchange->begin_stream("text/event-stream");
      exchange->write("data: one\n\n");
      exchange->write("data: two\n\n");
      exchange->end_stream();
    } else if (request.path == "/keep") {
      exchange->on_gone([this] { ++gone_; });
      const std::lock_guard lock(mutex_);
      kept_.push_back(std::move(exchange));
    }  // else dropped
  }
  std::shared_ptr<Exchange> kept(size_t i) {
    EXPECT_TRUE(soon([&] {
      const std::lock_guard lock(mutex_);
      return kept_.size() > i;
    }));
    const std::lock_guard lock(mutex_);
    return kept_.at(i);
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<Exchange>> kept_;
  std::atomic<int> gone_{0};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersOneRequestAfterAnotherOnAConnection) {
  open();
  RawClient client(server_->port());
  for (int i = 0; i < 3; ++i) {
    client.send(http_request("POST", "/echo?x=1", "{}"));
    const std::string answer = client.read_answer();
    EXPECT_EQ(status_of(answer), 200);
    EXPECT_THAT(answer, HasSubstr("Connection: keep-alive"));
    EXPECT_EQ(body_of(answer), "POST {}");
  }
  client.send(http_request("GET", "/echo", "", "Connection: close\r\n"));
  EXPECT_THAT(client.read_all(), EndsWith("\r\n\r\nGET "));
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  open();
  RawClient client(server_->port());
  client.send(http_request("POST", "/echo", "first") + http_request("POST", "/echo", "second") +
              http_request("GET", "/echo"));
  EXPECT_EQ(body_of(client.read_answer()), "POST first");
  EXPECT_EQ(body_of(client.read_answer()), "POST second");
  EXPECT_EQ(body_of(client.read_answer()), "GET ");
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  open();
  RawClient client(server_->port());
  client.send(http_request("HEAD", "/echo", "", "Connection: close\r\n"));
  const std::string answer = client.read_all();
  EXPECT_THAT(answer, HasSubstr("Content-Length: 5\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(HttpServerTest, StreamsInChunksAndToOldClientsUntilTheEnd) {
  open();
  RawClient client(server_->port());
  client.send(http_request("GET", "/stream") + http_request("GET", "/echo", "", "Connection: close\r\n"));
  const std::string stream = client.read_until("0\r\n\r\n");
  EXPECT_THAT(stream, HasSubstr("Transfer-Encoding: chunked"));
  EXPECT_THAT(stream, HasSubstr("data: one\n\n"));
  EXPECT_THAT(stream, HasSubstr("data: two\n\n"));
  EXPECT_EQ(body_of(client.read_all()), "GET ");

  RawClient old(server_->port());
  old.send("GET /stream HTTP/1.0\r\n\r\n");
  const std::string raw = old.read_all();
  EXPECT_THAT(raw, Not(HasSubstr("chunked")));
  EXPECT_EQ(body_of(raw), "data: one\n\ndata: two\n\n");
}

TEST_F(HttpServerTest, RefusesWhatIsTooLargeOrNoHttp) {
  open({.max_header = 1024, .max_body = 100});
  const auto ask = [&](const std::string& text) {
    RawClient client(server_->port());
    client.send(text);
    return client.read_all();
  };
  const std::string large = ask(http_request("POST", "/echo", std::string(101, 'x')));
  EXPECT_EQ(status_of(large), 413);
  EXPECT_THAT(large, HasSubstr("larger than 100 bytes"));
  const std::string chunked = "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n96\r\n" +
                              std::string(150, 'x') + "\r\n0\r\n\r\n";
  EXPECT_EQ(status_of(ask(chunked)), 413);
  EXPECT_EQ(status_of(ask(http_request("GET", "/echo", "", "X: " + std::string(2000, 'x') + "\r\n"))), 431);
  EXPECT_EQ(status_of(ask("hello\r\n\r\n")), 400);
  EXPECT_EQ(status_of(ask(http_request("POST", "/echo", std::string(100, 'x'), "Connection: close\r\n"))),
            200);
}

TEST_F(HttpServerTest, ReadsAChunkedBodyAndSaysContinue) {
  open();
  RawClient client(server_->port());
  client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(body_of(client.read_answer()), "POST abcde");
}

TEST_F(HttpServerTest, ClosesWhatIsTooSlow) {
  open({.idle = 100ms, .header = 100ms, .body = 100ms});
  RawClient idle(server_->port()), header(server_->port()), body(server_->port());
  header.send("GET /echo HTTP/1.1\r\nHo");
  body.send("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_EQ(header.read_all(), "");
  EXPECT_EQ(body.read_all(), "");
  EXPECT_TRUE(soon([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, TellsWhenTheClientGoes) {
  open();
  auto waiting = std::make_unique<RawClient>(server_->port());
  waiting->send(http_request("GET", "/keep"));
  auto streaming = std::make_unique<RawClient>(server_->port());
  streaming->send(http_request("GET", "/keep"));
  kept(1)->begin_stream("text/event-stream");
  EXPECT_EQ(server_->answering(), 2);
  EXPECT_EQ(gone_, 0);
  waiting.reset();
  streaming.reset();
  EXPECT_TRUE(soon([&] { return gone_ == 2; }));
  EXPECT_TRUE(soon([&] { return server_->answering() == 0; }));
  kept(0)->respond({});  // nobody is there: nothing happens
}

TEST_F(HttpServerTest, AClientThatDoesNotReadIsGone) {
  open({.max_unread = 1 << 20});
  RawClient client(server_->port(), 4096);
  client.send(http_request("GET", "/keep"));
  const auto exchange = kept(0);
  exchange->begin_stream("text/event-stream");
  EXPECT_TRUE(soon([&] {
    exchange->write(std::string(1 << 18, 'x'));
    return gone_ == 1;
  }));
  EXPECT_TRUE(soon([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, AQuietEventStreamGetsComments) {
  open({.keep_alive = 50ms});
  RawClient client(server_->port());
  client.send(http_request("GET", "/keep"));
  kept(0)->begin_stream("text/event-stream");
  EXPECT_THAT(client.read_until(": keep-alive\n\n"), HasSubstr("200 OK"));
  EXPECT_THAT(client.read_until(": keep-alive\n\n"), HasSubstr(": keep-alive"));
}

TEST_F(HttpServerTest, AnAnswerThatIsDroppedIsAnError) {
  open();
  RawClient client(server_->port());
  client.send(http_request("GET", "/dropped"));
  EXPECT_EQ(status_of(client.read_answer()), 500);
  client.send(http_request("GET", "/keep"));
  kept(0)->begin_stream("text/event-stream");
  {
    const std::lock_guard lock(mutex_);
    kept_.clear();
  }
  EXPECT_THAT(client.read_all(), Not(HasSubstr("0\r\n\r\n")));  // cut: no end of the chunks
}

TEST_F(HttpServerTest, DrainingEndsIdleConnectionsAndLetsAnswersEnd) {
  open();
  RawClient idle(server_->port()), busy(server_->port());
  idle.send(http_request("GET", "/echo"));
  idle.read_answer();
  busy.send(http_request("GET", "/keep"));
  const auto exchange = kept(0);
  server_->drain();
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_TRUE(soon([&] {
    try {
      RawClient late(server_->port());
      return false;
    } catch (const std::exception&) {
      return true;
    }
  }));
  exchange->respond({.body = "late"});
  const std::string answer = busy.read_all();
  EXPECT_THAT(answer, HasSubstr("Connection: close"));
  EXPECT_EQ(body_of(answer), "late");
  EXPECT_TRUE(soon([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, BoundsConnections) {
  open({.max_connections = 2});
  RawClient one(server_->port()), two(server_->port());
  EXPECT_TRUE(soon([&] { return server_->connections() == 2; }));
  RawClient three(server_->port());
  EXPECT_EQ(status_of(three.read_all()), 503);
  one.send(http_request("GET", "/echo"));
  EXPECT_EQ(status_of(one.read_answer()), 200);
}

TEST_F(HttpServerTest, NamesAnAddressThatIsTaken) {
  open();
  try {
    HttpServer second({"127.0.0.1", server_->port()}, {}, [](std::shared_ptr<Exchange>) {});
    FAIL() << "both listen";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(server_->port())));
  }
}

TEST_F(HttpServerTest, ServesManyAtOnce) {
  open();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    clients.back()->send(http_request("GET", i % 2 ? "/stream" : "/keep"));
  }
  for (size_t i = 0; i < 150; ++i) kept(i)->respond({.body = "kept"});
  for (size_t i = 0; i < clients.size(); ++i) {
    if (i % 2) {
      EXPECT_THAT(clients[i]->read_until("0\r\n\r\n"), HasSubstr("data: two"));
    } else {
      EXPECT_EQ(body_of(clients[i]->read_answer()), "kept");
    }
  }
}

}  // namespace
}  // namespace longspan::server
