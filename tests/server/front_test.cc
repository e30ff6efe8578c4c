#include "server/front.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>

#include "server/rank_link.h"
#include "server/raw_client.h"
#include "server/soon.h"

namespace longspan::server {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  return text;
}

/// A front whose job is a shell that waits; the tests play rank 0.
class FrontTest : public testing::Test {
 protected:
  FrontTest() {
    std::string name = (std::filesystem::temp_directory_path() / "front_test_XXXXXX").string();
    folder_ = mkdtemp(name.data());
    options_.address = {"127.0.0.1", 0};
    options_.folder_variable = "FRONT_TEST_FOLDER";
    options_.variables = {{"FRONT_TEST", folder_.string()}};
    options_.temporary_folder = folder_.string();
    options_.launcher = {"sh", "-c", "exec \"$@\"", "sh"};
    options_.program = {"sh", "-c",
                        "echo $$ > $FRONT_TEST/pid; echo $FRONT_TEST_FOLDER > $FRONT_TEST/new; "
                        "mv $FRONT_TEST/new $FRONT_TEST/job; "
                        "while [ ! -e $FRONT_TEST/end ]; do sleep 0.02; done; exit $(cat $FRONT_TEST/end)"};
  }
  ~FrontTest() override {
    stop();
    leave();
    std::filesystem::remove_all(folder_);
  }

  void open() {
    FrontProcess process;
    process.told_to_stop = [this] { return stop_.load(); };
    process.on_listening = [this](uint16_t port) { port_ = port; };
    process.on_restart = [this](const std::string& what) {
      const std::lock_guard lock(mutex_);
      told_ = what;
    };
    thread_ = std::thread([this, process] {
      try {
        serve_front(options_, process);
      } catch (const Error& error) {
        error_ = error;
      }
      ended_ = true;
    });
    ASSERT_TRUE(soon([&] { return port_ != 0 || ended_; }));
  }
  void stop() {
    stop_ = true;
    end_job(0);
    if (thread_.joinable()) thread_.join();
  }
  std::optional<Error> result() {
    if (thread_.joinable()) thread_.join();
    return error_;
  }

  /// The job has been started; takes rank 0's part.
  void come_up(bool ready = true) {
    ASSERT_TRUE(soon([&] { return std::filesystem::exists(folder_ / "job"); }));
    const std::string folder = read_file(folder_ / "job");
    std::filesystem::remove(folder_ / "job");
    pid_ = std::stoi(read_file(folder_ / "pid"));
    link_.emplace(RankLink::connect(front_link_path(folder)));
    HttpAddress address;
    address.socket_path = front_http_path(folder);
    http_.emplace(address, HttpLimits(), [this](std::shared_ptr<Exchange> x) { handle(std::move(x)); });
    http_->start();
    link_->say(kRankListens);
    if (!ready) return;
    link_->say(kRankReady);
    ASSERT_TRUE(soon([&] { return status_of(ask("GET", "/health")) == 200; }));
  }
  /// Rank 0 is gone, with all its connections.
  void leave() {
    if (http_) http_->stop();
    kept_.reset();
    http_.reset();
    link_.reset();
  }
  void end_job(int code) {
    std::ofstream(folder_ / "new_end") << code;
    std::filesystem::rename(folder_ / "new_end", folder_ / "end");
  }

  void handle(std::shared_ptr<Exchange> exchange) {
    const HttpRequest& request = exchange->request();
    if (request.path == "/echo") {
      exchange->respond({.status = 201,
                         .body = request.method + " " + request.content_type + " " + request.authorization +
                                 " " + request.body,
                         .content_type = "text/plain",
                         .headers = {{"Retry-After", "7"}}});
    } else if (request.path == "/metrics") {
      exchange->respond({.body = "a 1\n", .content_type = "text/plain"});
    } else {
      exchange->on_gone([this] { ++gone_; });
      if (request.path == "/stream") {
        exchange->begin_stream("text/event-stream");
        exchange->write("data: one\n\n");
      }
      const std::lock_guard lock(mutex_);
      kept_ = std::move(exchange);
    }
  }
  std::shared_ptr<Exchange> kept() {
    EXPECT_TRUE(soon([&] {
      const std::lock_guard lock(mutex_);
      return kept_ != nullptr;
    }));
    const std::lock_guard lock(mutex_);
    return kept_;
  }

  std::string told() {
    const std::lock_guard lock(mutex_);
    return told_;
  }

  std::string ask(const std::string& method, const std::string& path, const std::string& body = "",
                  const std::string& headers = "") const {
    RawClient client(port_);
    client.send(http_request(method, path, body, headers + "Connection: close\r\n"));
    return client.read_all();
  }

  std::filesystem::path folder_;
  FrontOptions options_;
  std::thread thread_;
  std::atomic<uint16_t> port_{0};
  std::atomic<bool> stop_{false}, ended_{false};
  std::optional<Error> error_;
  pid_t pid_ = 0;
  std::optional<RankLink> link_;
  std::optional<HttpServer> http_;
  std::mutex mutex_;  // guards the two below
  std::shared_ptr<Exchange> kept_;
  std::string told_;
  std::atomic<int> gone_{0};
};

TEST_F(FrontTest, PassesRequestsOnAndAnswersBack) {
  open();
  come_up();
  std::string answer = ask("POST", "/echo", "{}", "Authorization: Bearer key\r\n");
  EXPECT_EQ(status_of(answer), 201);
  EXPECT_THAT(answer, HasSubstr("Retry-After: 7\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain\r\n"));
  EXPECT_EQ(body_of(answer), "POST application/json Bearer key {}");
  const std::string large(5 << 20, 'x');
  EXPECT_THAT(body_of(ask("PUT", "/echo", large)), EndsWith(" " + large));
  answer = ask("HEAD", "/echo");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 6\r\n"));
  EXPECT_EQ(body_of(answer), "");
  EXPECT_EQ(status_of(ask("TRACE", "/echo", "{}")), 201);
  EXPECT_EQ(body_of(ask("GET", "/metrics")).substr(0, 4), "a 1\n");
  EXPECT_THAT(body_of(ask("GET", "/metrics")), EndsWith("\nlongspan_rank_job_restarts_total 0\n"));
}

TEST_F(FrontTest, PassesStreamsOnAsTheyCome) {
  open();
  come_up();
  RawClient client(port_);
  client.send(http_request("POST", "/stream", "{}"));
  EXPECT_THAT(client.read_until("one\n\n"), HasSubstr("Content-Type: text/event-stream\r\n"));
  const auto exchange = kept();
  exchange->write("data: two\n\n");
  EXPECT_THAT(client.read_until("two\n\n"), HasSubstr("data: two\n\n"));
  exchange->end_stream();
  EXPECT_THAT(client.read_until("0\r\n\r\n"), EndsWith("\r\n0\r\n\r\n"));
  client.send(http_request("GET", "/echo"));  // the connection goes on
  EXPECT_EQ(status_of(client.read_answer()), 201);
}

TEST_F(FrontTest, AClientThatGoesIsGoneForRankZero) {
  open();
  come_up();
  for (const char* path : {"/stream", "/keep"}) {
    const int before = gone_;
    RawClient client(port_);
    client.send(http_request("POST", path, "{}"));
    kept();
    client.close();
    EXPECT_TRUE(soon([&] { return gone_ == before + 1; })) << path;
    kept_.reset();
  }
}

TEST_F(FrontTest, SoIsOneThatDoesNotRead) {
  options_.limits.max_unread = 64 << 10;
  open();
  come_up();
  RawClient client(port_, /*receive_buffer=*/4096);
  client.send(http_request("POST", "/stream", "{}"));
  const auto exchange = kept();
  EXPECT_TRUE(soon([&] {
    exchange->write(std::string(1 << 20, 'x'));
    return gone_ == 1;
  }));
}

TEST_F(FrontTest, SaysHowFarTheJobIs) {
  open();
  EXPECT_THAT(ask("GET", "/health"), HasSubstr(R"({"status":"starting"})"));
  const std::string early = ask("POST", "/echo", "{}");
  EXPECT_EQ(status_of(early), 503);
  EXPECT_THAT(early, HasSubstr(R"("code":"loading")"));
  come_up(/*ready=*/false);
  EXPECT_TRUE(soon([&] { return ask("GET", "/health").find("loading") != std::string::npos; }));
  EXPECT_EQ(status_of(ask("GET", "/health")), 503);
  EXPECT_EQ(status_of(ask("POST", "/echo", "{}")), 201);  // rank 0 says itself what it can't do yet
  link_->say(kRankReady);
  EXPECT_TRUE(soon([&] { return ask("GET", "/health").find(R"({"status":"ok"})") != std::string::npos; }));
}

TEST_F(FrontTest, RequestsInFlightLearnThatRankZeroIsGone) {
  open();
  come_up();
  RawClient whole(port_), stream(port_);
  whole.send(http_request("POST", "/keep", "{}"));
  kept();
  auto first = std::move(kept_);
  stream.send(http_request("POST", "/stream", "{}"));
  stream.read_until("one\n\n");
  kept();
  http_->stop();
  first.reset();
  const std::string answer = whole.read_answer();
  EXPECT_EQ(status_of(answer), 503);
  EXPECT_THAT(answer, HasSubstr(R"("code":"rank_lost")"));
  EXPECT_THAT(answer, HasSubstr("rank 0 broke off"));
  const std::string rest = stream.read_until("0\r\n\r\n");
  EXPECT_THAT(rest, HasSubstr("\n\ndata: {\"error\":{\"message\":\"a rank was lost"));
  EXPECT_THAT(rest, EndsWith("\n\n\r\n0\r\n\r\n"));
}

TEST_F(FrontTest, ARankZeroThatCantBeReachedIsNotLost) {
  open();
  come_up();
  http_->stop();
  http_.reset();
  const std::string answer = ask("POST", "/echo", "{}");
  EXPECT_EQ(status_of(answer), 503);
  EXPECT_THAT(answer, HasSubstr(R"("message":"rank 0 can't be reached: )"));
  EXPECT_THAT(answer, HasSubstr(R"("code":"unreachable")"));
}

TEST_F(FrontTest, ASteadyJobBeginsANewRow) {
  options_.restarts = 1;
  options_.steady_s = 0.01;
  options_.comm_timeout_s = 0.01;
  open();
  for (int i = 0; i < 3; ++i) {
    come_up();
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    kill(pid_, SIGKILL);
    leave();
  }
  come_up();
}

// A rank that hangs from the start is seen after the time limit.
TEST_F(FrontTest, AJobIsSteadyWhenItOutlivesTheTimeLimit) {
  options_.restarts = 1;
  options_.steady_s = 0.01;
  options_.comm_timeout_s = 60;
  open();
  for (int i = 0; i < 2; ++i) {
    come_up();
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    kill(pid_, SIGKILL);
    leave();
  }
  const std::optional<Error> error = result();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kRankLost);
}

TEST_F(FrontTest, ALostJobIsStartedAgainSoOften) {
  options_.restarts = 1;
  open();
  come_up();
  link_->say(failure_line(Error(ErrorCode::kRankLost, "a rank was lost: rank 1 is silent")));
  EXPECT_TRUE(soon([&] { return ask("GET", "/health").find(R"("status":"failed")") != std::string::npos; }));
  EXPECT_THAT(ask("GET", "/health"), HasSubstr("rank 1 is silent"));
  EXPECT_THAT(ask("POST", "/echo", "{}"), HasSubstr("rank 1 is silent"));
  kill(pid_, SIGKILL);
  leave();
  come_up();
  EXPECT_EQ(told(), "a rank was lost: rank 1 is silent; starting the ranks again in 0.5 s (1 of 1 times)");
  EXPECT_THAT(ask("GET", "/health"), HasSubstr(R"({"status":"ok"})"));
  EXPECT_THAT(ask("GET", "/metrics"), HasSubstr("\nlongspan_rank_job_restarts_total 1\n"));
  kill(pid_, SIGKILL);
  leave();
  const std::optional<Error> error = result();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kRankLost);
  EXPECT_STREQ(error->what(), "rank 0 has ended; sh was killed by signal 9");
}

TEST_F(FrontTest, WhatAJobCouldNotOpenWithIsNotTriedAgain) {
  options_.restarts = 3;
  open();
  come_up(/*ready=*/false);
  link_->say(failure_line(Error(ErrorCode::kUnreadable, "M: no such model folder")));
  end_job(3);
  const std::optional<Error> error = result();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kUnreadable);
  EXPECT_STREQ(error->what(), "M: no such model folder");
}

TEST_F(FrontTest, ALauncherThatDoesNotLaunch) {
  options_.restarts = 3;
  options_.launcher = {"/nonexistent/mpirun", "-n", "2"};
  open();
  std::optional<Error> error = result();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kUsage);
  EXPECT_STREQ(error->what(), "can't run /nonexistent/mpirun: No such file or directory");

  options_.launcher = {"sh", "-c", "exit 3"};
  open();
  error = result();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kUsage);
  EXPECT_STREQ(error->what(), "sh ended with exit code 3 before rank 0 was there");
}

TEST_F(FrontTest, ARankThatIsKilledBeforeRankZeroIsThereIsLost) {
  for (const auto& [script, says] :
       {std::pair("kill -9 $$", "sh was killed by signal 9 before rank 0 was there"),
        std::pair("exit 137", "sh ended with exit code 137 before rank 0 was there")}) {
    options_.launcher = {"sh", "-c", script};
    open();
    const std::optional<Error> error = result();
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kRankLost);
    EXPECT_STREQ(error->what(), says);
  }
}

TEST_F(FrontTest, AJobThatGoesOnWithoutRankZeroIsEnded) {
  options_.lost_grace_s = 0.2;
  open();
  come_up();
  leave();
  const std::optional<Error> error = result();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kRankLost);
  EXPECT_STREQ(error->what(), "rank 0 has ended; sh was killed by signal 15");
  EXPECT_EQ(kill(pid_, 0), -1) << "a process is left";
}

TEST_F(FrontTest, SoIsOneWhoseRankZeroHasFailed) {
  options_.lost_grace_s = 0.2;
  open();
  come_up();
  link_->say(failure_line(Error(ErrorCode::kInternal, "a rule is broken")));
  const std::optional<Error> error = result();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kInternal);
  EXPECT_STREQ(error->what(), "a rule is broken");
  EXPECT_EQ(kill(pid_, 0), -1) << "a process is left";
}

TEST_F(FrontTest, AJobMayEndByItselfWhenRankZeroHasFailed) {
  options_.lost_grace_s = 3600;
  open();
  come_up();
  link_->say(failure_line(Error(ErrorCode::kRankLost, "a rank was lost: rank 1 is silent")));
  EXPECT_TRUE(soon([&] { return ask("GET", "/health").find("failed") != std::string::npos; }));
  leave();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_FALSE(ended_);
  end_job(5);
  const std::optional<Error> error = result();
  ASSERT_TRUE(error);
  EXPECT_STREQ(error->what(), "a rank was lost: rank 1 is silent");
}

TEST_F(FrontTest, ARankZeroThatFailsInADrainIsTold) {
  for (const bool says : {true, false}) {
    open();
    come_up();
    stop_ = true;
    ASSERT_TRUE(soon([&] { return !link_->hear().empty(); }));
    if (says) link_->say(failure_line(Error(ErrorCode::kRankLost, "a rank was lost: rank 1 is silent")));
    end_job(5);
    const std::optional<Error> error = result();
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kRankLost);
    EXPECT_STREQ(error->what(),
                 says ? "a rank was lost: rank 1 is silent" : "rank 0 has ended; sh ended with exit code 5");
    leave();
    stop_ = ended_ = false;
    port_ = 0;
    std::filesystem::remove(folder_ / "end");
  }
}

TEST_F(FrontTest, DrainsNoJobWhoseRankZeroIsGone) {
  open();
  come_up();
  leave();
  const auto begin = std::chrono::steady_clock::now();
  stop_ = true;
  EXPECT_FALSE(result());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST_F(FrontTest, ADrainWaitsForASlowReader) {
  open();
  come_up();
  RawClient client(port_, /*receive_buffer=*/4096);
  client.send(http_request("POST", "/stream", "{}"));
  const auto exchange = kept();
  exchange->write(std::string(7 << 19, 'x'));
  exchange->end_stream();
  stop_ = true;
  ASSERT_TRUE(soon([&] { return !link_->hear().empty(); }));
  end_job(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(3500));
  EXPECT_FALSE(ended_);
  const std::string answer = client.read_until("\r\n0\r\n\r\n");
  EXPECT_TRUE(answer.ends_with("\r\n0\r\n\r\n")) << answer.size() << " bytes";
  EXPECT_FALSE(result());
}

TEST_F(FrontTest, DrainsWithTheJob) {
  open();
  come_up();
  RawClient client(port_);
  client.send(http_request("POST", "/keep", "{}"));
  const auto exchange = kept();
  stop_ = true;
  EXPECT_TRUE(soon([&] {
    const auto lines = link_->hear();
    return std::find(lines.begin(), lines.end(), kDrain) != lines.end();
  }));
  exchange->respond({.body = "last"});
  EXPECT_EQ(body_of(client.read_answer()), "last");
  EXPECT_FALSE(ended_);
  end_job(0);
  EXPECT_FALSE(result());
  EXPECT_EQ(kill(pid_, 0), -1) << "a process is left";
}

TEST_F(FrontTest, StopsAJobThatIsNotReady) {
  open();
  come_up(/*ready=*/false);
  stop_ = true;
  EXPECT_FALSE(result());
  EXPECT_EQ(kill(pid_, 0), -1) << "a process is left";
}

TEST_F(FrontTest, IsFoundWhereALauncherTakesNoVariables) {
  options_.launcher = {"env", "-i", "PATH=/usr/bin:/bin", "FRONT_TEST=" + folder_.string()};
  open();
  come_up();
}

TEST_F(FrontTest, NoFolderIsLeft) {
  open();
  come_up();
  stop();
  leave();
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    EXPECT_THAT(entry.path().filename().string(), Not(HasSubstr("longspan-")));
}

}  // namespace
}  // namespace longspan::server
