// Generates from a prompt with the installed library: example MODEL PROMPT [CP]
#include <longspan/engine.h>

#include <cstdlib>
#include <iostream>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: example MODEL PROMPT [CP]\n";
    return 2;
  }
  try {
    longspan::EngineOptions options;
    options.model = argv[1];
    options.layout.cp = argc > 3 ? std::atoi(argv[3]) : 1;
    const auto engine = longspan::Engine::open(options);

    longspan::Request request;
    request.prompt = std::vector<longspan::Message>{{"user", argv[2]}};
    request.sampling.max_tokens = 32;
    request.on_token = [](int32_t, const std::string& text) { std::cout << text << std::flush; };
    const longspan::Result result = engine->generate(std::move(request));
    std::cout << "\n" << result.prompt_tokens << " prompt tokens, first token after " << result.ttft_ms << " ms\n";
  } catch (const longspan::Error& error) {
    std::cerr << "example: " << error.what() << "\n";
    return 1;
  }
}
