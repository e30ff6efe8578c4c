#include "server/serve.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "server/engine_loop.h"
#include "server/openai_api.h"
#include "server/tls.h"

namespace longspan::server {
namespace {

constexpr auto kSignalPoll = std::chrono::milliseconds(50);

}  // namespace

void serve(const ServeOptions& options, const std::string& model_folder, const ServeProcess& process) {
  OpenAiApi api({.model_name = options.model_name,
                 .api_keys = options.api_keys,
                 .max_requests = options.max_requests,
                 .defaults = load_generation_defaults(model_folder),
                 .random = process.random,
                 .unix_now = process.unix_now,
                 .now = process.now,
                 .pair_work = options.pair_work});
  std::shared_ptr<Tls> tls;
  if (!options.tls_cert.empty()) tls = std::make_shared<Tls>(options.tls_cert, options.tls_key);
  HttpServer http(
      options.address, options.limits, [&api](std::shared_ptr<Exchange> exchange) { api.handle(exchange); },
      std::move(tls));
  http.start();
  if (process.on_listening) process.on_listening(http.port());

  const std::unique_ptr<Engine> engine = process.open_engine();
  std::optional<Error> lost;
  {
    EngineLoop loop(
        *engine, [&api](const Error& error) { api.fail(error.what()); }, options.check_integrity);
    api.attach(*engine, loop);
    if (process.on_ready) process.on_ready(*engine);
    while (!process.told_to_stop() && !(lost = loop.dead())) {
      if (process.lost && (lost = process.lost())) {
        api.fail(lost->what());
        break;
      }
      std::this_thread::sleep_for(kSignalPoll);
    }

    if (!lost && process.on_drain) process.on_drain();
    api.drain();
    http.drain();
    http.await_answers(std::chrono::duration<double>(options.drain_timeout_s));
    if (!lost) lost = loop.dead();
    api.detach();
  }
  http.await_answers(kLastWords);  // those that were cancelled
  if (lost) throw Error(*lost);
}

}  // namespace longspan::server
