#pragma once

#include <longspan/engine.h>

#include <cstddef>
#include <memory>
#include <string>

namespace longspan::server {

struct RemoteOptions {
  std::string url;           // of an OpenAI-compatible server: "http://host:port", with or without "/v1"
  std::string model_name;    // what it calls the model; "": the first that it lists
  std::string api_key;       // "": none
  std::string model_folder;  // whose tokenizer and chat template count tokens; "": nothing is counted
  std::string chat_template;
  size_t parallel = 32;     // requests in flight
  double timeout_s = 3600;  // for one answer
};

/// An OpenAI-compatible server as an engine: texts and chats become its completions. Answers have text,
/// finish reason and usage; token ids are not known, and log-probabilities are refused. Throws Error: kUsage
/// for a bad URL, kUnreadable for a server that does not answer.
std::unique_ptr<Engine> open_remote_engine(const RemoteOptions& options);

}  // namespace longspan::server
