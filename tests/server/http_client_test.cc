#include "server/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>

#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/http_server.h"

namespace longspan::server {
namespace {

using testing::HasSubstr;

std::string parts(const std::string& url) {
  try {
    const HttpUrl parsed = parse_url(url);
    return parsed.host + " " + parsed.port + " " + parsed.base;
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(HttpUrl, IsTakenApart) {
  EXPECT_EQ(parts("http://127.0.0.1:8080"), "127.0.0.1 8080 ");
  EXPECT_EQ(parts("http://host/"), "host 80 ");
  EXPECT_EQ(parts("http://host:1/v1/"), "host 1 /v1");
  EXPECT_EQ(parts("http://[::1]:8080/a/b"), "::1 8080 /a/b");
  EXPECT_EQ(parts("http://[::1]"), "::1 80 ");
  EXPECT_THAT(parts("https://host"), HasSubstr("https is not in this build"));
  for (const char* bad :
       {"", "host:80", "http://", "http://:80", "http://host:", "http://host:x", "http://host:123456"})
    EXPECT_THAT(parts(bad), HasSubstr("for example http://127.0.0.1:8080")) << bad;
}

TEST(HttpClient, KeepsItsConnectionAndMakesANewOneWhereItWasClosed) {
  HttpServer server({"127.0.0.1", 0}, {.idle = std::chrono::milliseconds(50)},
                    [](std::shared_ptr<Exchange> x) {
                      x->respond({.status = 201,
                                  .body = x->request().method + x->request().path + x->request().body +
                                          x->request().authorization});
                    });
  server.start();
  HttpClient client({"127.0.0.1", std::to_string(server.port()), "/v1"}, "key", 10);
  for (int i = 0; i < 3; ++i) {
    const HttpAnswer answer = client.post("/x", "{}");
    EXPECT_EQ(answer.status, 201);
    EXPECT_EQ(answer.body, "POST/v1/x{}Bearer key");
  }
  EXPECT_EQ(server.connections(), 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(client.get("/y").body, "GET/v1/yBearer key");
}

TEST(HttpClient, GivesAPieceBeforeTheNextIsSent) {
  std::promise<void> seen;
  std::thread writer;
  HttpServer server({"127.0.0.1", 0}, {}, [&](std::shared_ptr<Exchange> x) {
    writer = std::thread([x = std::move(x), first = seen.get_future()]() mutable {
      x->begin_stream("text/event-stream");
      x->write("one");
      EXPECT_EQ(first.wait_for(std::chrono::seconds(5)), std::future_status::ready);
      x->write("two");
      x->end_stream();
    });
  });
  server.start();
  HttpClient client({"127.0.0.1", std::to_string(server.port()), ""}, "", 10);
  std::vector<std::string> pieces;
  client.post_stream("/", "{}", [&](std::string_view piece) {
    if (pieces.empty()) seen.set_value();
    pieces.emplace_back(piece);
  });
  EXPECT_EQ(pieces, std::vector<std::string>({"one", "two"}));
  writer.join();
}

TEST(HttpClient, EndsWhereThereIsNoAnswer) {
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> kept;
  auto server = std::make_unique<HttpServer>(HttpAddress{"127.0.0.1", 0}, HttpLimits{},
                                             [&](std::shared_ptr<Exchange> x) {
                                               const std::lock_guard lock(mutex);
                                               kept.push_back(std::move(x));
                                             });
  server->start();
  const std::string port = std::to_string(server->port());
  HttpClient impatient({"127.0.0.1", port, ""}, "", 0.1);
  EXPECT_THROW(impatient.get("/"), Error);
  HttpClient stopped({"127.0.0.1", port, ""}, "", 100);
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    stopped.stop();
  });
  EXPECT_THROW(stopped.get("/"), Error);
  stopper.join();
  {
    const std::lock_guard lock(mutex);
    kept.clear();
  }
  server.reset();
  HttpClient nobody({"127.0.0.1", port, ""}, "", 5);
  EXPECT_THROW(nobody.get("/"), Error);
}

}  // namespace
}  // namespace longspan::server
