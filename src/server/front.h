#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "server/http_server.h"

namespace longspan::server {

/// A front and the job behind it meet in a folder that only their user may enter.
std::string front_link_path(const std::string& folder);  // RankLink
std::string front_http_path(const std::string& folder);  // where rank 0's HttpServer listens

/// Lines of a RankLink besides failure_line(): rank 0 says the first two, with what it is after the second,
/// the front the third.
inline constexpr const char* kRankListens = "listening";
inline constexpr const char* kRankReady = "ready";
inline constexpr const char* kDrain = "drain";

struct FrontOptions {
  HttpAddress address;
  HttpLimits limits;
  std::string tls_cert, tls_key;  // PEM files; "": plain HTTP
  // What starts the job, and what each of its processes becomes; these find the folder in folder_variable,
  // also where a launcher takes no variables to other machines: between the two comes env(1), which sets it.
  std::vector<std::string> launcher, program;
  std::string folder_variable;
  std::vector<std::pair<std::string, std::string>> variables;  // of the job, beside this process' own
  std::string temporary_folder = "/tmp";                       // where folders for sockets are made
  int64_t restarts = 0;         // how often a lost job is started again, since one last was steady
  double drain_timeout_s = 30;  // of the job, for answers under way
  double steady_s = 60;         // a job that was up for so long, and comm_timeout_s, did not fail to start
  double comm_timeout_s = 60;   // of the job: so late it may learn that a rank is lost
  double lost_grace_s = 15;     // for a job to end by itself once rank 0 has failed or gone
};

/// What the front needs from the process around it.
struct FrontProcess {
  std::function<bool()> told_to_stop;  // asked every so often
  std::function<void(uint16_t port)> on_listening = {};
  std::function<void(const std::string&)> on_ready = {};  // rank 0's line
  std::function<void()> on_drain = {};
  std::function<void(const std::string&)> on_restart = {};  // why, and when
};

/// Listens, starts a job whose rank 0 answers, and passes requests on to it and its answers back, until told
/// to stop; then takes nothing new, lets rank 0 drain and returns once the job has ended. While there is no
/// job, requests get status 503. A lost job is started again, or ends this with its Error; what it could not
/// open with ends it at once. Throws Error: kUsage for an address that can't be listened at and a launcher
/// that can't be run, what Tls() throws, and what the job ended with. Nothing of the job is left then.
void serve_front(const FrontOptions& options, const FrontProcess& process);

}  // namespace longspan::server
